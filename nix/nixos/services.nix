# Units, timers, containers, packages and persistent directories.
{ config, lib, pkgs, utils, ... }:
let
  inherit (lib) mkDefault mkForce mkIf mkMerge;
  inherit (import ./lib.nix { inherit lib; }) at line refuse unit;
  cfg = config.fleeti.profile;

  # Names of Debian that are a setting of NixOS and not a package.
  settings = [ "openssh-server" "sudo" "nftables" "podman" ];
  packages = lib.filter (name: !(lib.elem name settings)) cfg.software.packages;
  find = name: lib.attrByPath (lib.splitString "." name) null pkgs;

  # Names that units of Debian have.
  ofNixos = name: { "ssh.service" = "sshd.service"; }.${name} or name;
  isOurs = service: service.unit != null;

  serviceUnit = service:
    let
      own = if isOurs service then unit service.unit else { };
      state = {
        enabled = { };
        disabled = { wantedBy = mkForce [ ]; requiredBy = mkForce [ ]; };
        masked = { enable = mkForce false; };
      }.${service.state};
    in
    # What the profile switches off is off; all else gives way to a module.
    mkMerge [ (lib.mapAttrs (_: mkDefault) own) state ];

  dropIns = service: map
    (dropIn: pkgs.writeTextDir
      "etc/systemd/system/${ofNixos service.name}.d/${dropIn.name}.conf"
      dropIn.text)
    service.drop_ins;

  timer = t: ''
    [Unit]
    Description=Starts ${t.service}

    [Timer]
    Unit=${t.service}
    OnCalendar=${t.on_calendar}
  '' + lib.optionalString t.persistent ''
    Persistent=yes
  '' + lib.optionalString (t.random_delay_s > 0) ''
    RandomizedDelaySec=${toString t.random_delay_s}
  '' + ''

    [Install]
    WantedBy=timers.target
  '';

  stamps = { path = "/var/lib/systemd/timers"; owner = "root"; group = "root"; mode = "0755"; };
  directories = cfg.state.directories
    ++ lib.optional (lib.any (t: t.persistent) cfg.timers) stamps;
  source = path: "/data/state/" + lib.replaceStrings [ "%" "+" "/" ] [ "%25" "%2b" "+" ]
    (lib.removePrefix "/" path);

  folders = ''
    [Unit]
    Description=Folders of the profile's persistent directories
    DefaultDependencies=no
    Requires=fleeti-data.service
    After=fleeti-data.service
    Before=local-fs.target

    [Service]
    Type=oneshot
    RemainAfterExit=yes
    ExecStart=/usr/bin/mkdir -p -m 0755 /data/state
  '' + lib.concatMapStrings
    (d: "ExecStart=/usr/bin/install -d -o ${d.owner} -g ${d.group} -m ${d.mode} ${utils.escapeSystemdExecArg (source d.path)}\n")
    directories;

  mount = d: lib.nameValuePair "${utils.escapeSystemdPath d.path}.mount" (unit ''
    [Unit]
    Description=Persistent directory ${line d.path}
    DefaultDependencies=no
    Requires=fleeti-state.service
    After=fleeti-state.service var.mount
    Before=local-fs.target

    [Mount]
    What=${line (source d.path)}
    Where=${line d.path}
    Type=none
    Options=bind,nodev,nosuid

    [Install]
    RequiredBy=local-fs.target
  '');

  has = kind: name: config.users.${kind} ? ${name};
in
{
  environment.systemPackages = lib.filter (p: p != null) (map find packages);
  environment.defaultPackages = mkDefault [ ];

  systemd.units = lib.listToAttrs (
    map (s: lib.nameValuePair (ofNixos s.name) (serviceUnit s)) cfg.services
    ++ map
      (t: lib.nameValuePair (lib.removeSuffix ".service" t.service + ".timer") (unit (timer t)))
      cfg.timers
    ++ lib.optionals (directories != [ ])
      ([ (lib.nameValuePair "fleeti-state.service" (unit folders)) ] ++ map mount directories)
  );
  systemd.packages = lib.concatMap dropIns cfg.services;

  virtualisation.oci-containers = mkIf (cfg.containers != [ ]) {
    backend = mkDefault "podman";
    containers = lib.listToAttrs (map
      (c: lib.nameValuePair c.name {
        image = mkDefault c.image;
        cmd = mkDefault c.command;
        ports = mkDefault c.ports;
        volumes = mkDefault c.volumes;
        environment = mkDefault c.environment;
        extraOptions = lib.optional c.read_only "--read-only";
      })
      cfg.containers);
  };

  assertions =
    lib.imap0
      (i: name: refuse (lib.elem name settings || find name != null) "software.packages[${toString i}]"
        "nixpkgs has no package ${name}")
      cfg.software.packages
    ++ lib.concatLists (lib.imap0
      (i: d:
        let at = field: "state.directories[${toString i}].${field}"; in [
          (refuse (has "users" d.owner) (at "owner") "there is no user ${d.owner}")
          (refuse (has "groups" d.group) (at "group") "there is no group ${d.group}")
        ])
      cfg.state.directories);
  warnings =
    let
      isKnown = s: isOurs s || s.state != "enabled" || config.systemd.units.${ofNixos s.name}.text != null;
      isRun = service: lib.any (s: s.name == service && isOurs s) cfg.services
        || (config.systemd.units.${ofNixos service} or { text = null; }).text != null;
    in
    lib.concatLists (lib.imap0
      (i: s: lib.optional (!isKnown s) (at "services[${toString i}].name"
        "no module makes ${s.name}: a package alone starts no service here, extension.nixos can enable its module"))
      cfg.services)
    ++ lib.concatLists (lib.imap0
      (i: t: lib.optional (!isRun t.service) (at "timers[${toString i}].service"
        "no module makes ${t.service}"))
      cfg.timers);
}
