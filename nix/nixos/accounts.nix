# Users, groups, sudo rules and the SSH server.
{ config, lib, pkgs, ... }:
let
  inherit (lib) mkDefault mkForce mkIf;
  inherit (import ./lib.nix { inherit lib; }) at refuse;
  cfg = config.fleeti.profile;

  # Entries without an id get the next free one, in the order of the profile.
  number = entries:
    let
      taken = lib.filter (id: id != null) (map (e: e.id) entries);
      free = lib.filter (id: !(lib.elem id taken)) (lib.range 1000 (1999 + lib.length entries));
      step = { next, out }: entry:
        if entry.id != null then { inherit next; out = out ++ [ entry ]; }
        else {
          next = lib.tail next;
          out = out ++ [ (entry // { id = lib.head next; }) ];
        };
    in
    (lib.foldl' step { next = free; out = [ ]; } entries).out;
  users = number cfg.users;
  # A user has a group of its own name and number.
  groups = number (cfg.groups ++ map (u: { inherit (u) name id; }) users);

  shells = {
    sh = "${pkgs.bashInteractive}/bin/sh";
    bash = "${pkgs.bashInteractive}/bin/bash";
    false = "${pkgs.coreutils}/bin/false";
    nologin = "${pkgs.shadow}/bin/nologin";
    zsh = "${pkgs.zsh}/bin/zsh";
    fish = "${pkgs.fish}/bin/fish";
  };
  shellOf = user: shells.${baseNameOf user.shell} or null;

  hasGroup = name: config.users.groups ? ${name};
  hasUser = name: config.users.users ? ${name};
  everyGroup = path: names: lib.imap0
    (i: name: refuse (hasGroup name) "${path}[${toString i}]" "there is no group ${name}")
    names;

  ssh = cfg.security.ssh;
  hasSsh = lib.elem "openssh-server" cfg.software.packages;
in
{
  users.mutableUsers = false;
  # Operators come by SSH with keys of the profile, and by the agent.
  users.allowNoPasswordLogin = true;
  users.users = lib.listToAttrs (map
    (user: lib.nameValuePair user.name {
      # systemd-sysupdate replaces the system; systemd-sysusers, which makes the accounts of a
      # read-only /etc, knows no other kind of users.
      isSystemUser = true;
      uid = mkDefault user.id;
      group = mkDefault user.name;
      description = mkDefault user.comment;
      home = mkDefault "/var/home/${user.name}";
      homeMode = mkDefault "0700";
      shell = mkDefault (if shellOf user == null then shells.nologin else shellOf user);
      extraGroups = mkDefault user.groups;
      # No password, and no way to set one: the account is locked for logins with a password.
      initialHashedPassword = mkForce "!";
      openssh.authorizedKeys.keys = mkDefault user.ssh_keys;
    })
    users) // {
    root = {
      initialHashedPassword = mkForce "!";
      shell = mkForce shells.nologin;
    };
  };
  users.groups = lib.listToAttrs (map
    (group: lib.nameValuePair group.name { gid = mkDefault group.id; })
    groups);

  security.sudo = {
    enable = mkDefault (cfg.sudo != [ ]);
    # Nobody has rights that the profile does not name.
    wheelNeedsPassword = mkDefault true;
    execWheelOnly = mkDefault false;
    extraRules = map
      (rule: {
        inherit (rule) users groups;
        runAs = rule.run_as;
        commands = map
          (command: {
            inherit command;
            options = lib.optional rule.no_password "NOPASSWD";
          })
          rule.commands;
      })
      cfg.sudo;
  };

  services.openssh = mkIf hasSsh {
    enable = mkDefault true;
    # The keys are on the data partition; fleeti-ssh-keys.service makes them at the first boot.
    hostKeys = mkForce [ ];
    openFirewall = mkDefault false;
    # Keys are those of the profile: what a user writes to a home does not let anybody in.
    authorizedKeysInHomedir = mkForce false;
    settings = {
      PermitRootLogin = mkForce "no";
      PasswordAuthentication = mkForce false;
      KbdInteractiveAuthentication = mkForce false;
      X11Forwarding = mkDefault false;
      AllowTcpForwarding = mkDefault (if ssh.forwarding then "yes" else "no");
      AllowAgentForwarding = mkDefault ssh.forwarding;
      AllowStreamLocalForwarding = mkDefault (if ssh.forwarding then "yes" else "no");
      MaxAuthTries = mkDefault ssh.attempts_max;
      AllowGroups = mkIf (ssh.allow_groups != [ ]) (mkDefault ssh.allow_groups);
    };
    extraConfig = ''
      HostKey /var/lib/fleeti/ssh/ssh_host_ed25519_key
    '' + lib.optionalString (ssh.idle_timeout_s > 0) ''
      ChannelTimeout session=${toString ssh.idle_timeout_s}
      UnusedConnectionTimeout ${toString ssh.idle_timeout_s}
    '';
  };
  # The name that the unit has in profiles and on the Debian base.
  systemd.services.sshd.aliases = mkIf hasSsh [ "ssh.service" ];

  assertions =
    lib.concatLists (lib.imap0
      (i: user: [
        (refuse (shellOf user != null) "users[${toString i}].shell"
          "${user.shell} is not a shell of this base")
      ] ++ everyGroup "users[${toString i}].groups" user.groups)
      cfg.users)
    ++ lib.concatLists (lib.imap0
      (i: rule: everyGroup "sudo[${toString i}].groups" rule.groups ++ [
        (refuse (hasUser rule.run_as) "sudo[${toString i}].run_as" "there is no user ${rule.run_as}")
      ])
      cfg.sudo)
    ++ everyGroup "security.ssh.allow_groups" ssh.allow_groups;
  warnings = lib.concatLists (lib.imap0
    (i: user: lib.optional (user.id == null) (at "users[${toString i}].id"
      "has no number, and no lock keeps one: ${user.name} is ${toString (lib.elemAt users i).id} as long as the entries before it stay"))
    cfg.users);
}
