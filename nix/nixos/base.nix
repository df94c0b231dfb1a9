# What every image of this base has: a system that is read-only and not rebuilt, and defaults that
# close what is not needed.
{ config, lib, ... }:
let
  inherit (lib) mkDefault mkForce;
  inherit (import ./lib.nix { inherit lib; }) refuse;
  cfg = config.fleeti.profile;
  users = lib.attrValues config.users.users;
  # "", and what crypt(5) makes of no text, let everybody in.
  isOpen = user: lib.any (p: p == "") [
    user.hashedPassword user.initialHashedPassword user.password user.initialPassword
  ];
  hasPassword = user: user.password != null || user.initialPassword != null
    || user.hashedPasswordFile != null
    || !(lib.elem user.hashedPassword [ null "!" "*" ])
    || !(lib.elem user.initialHashedPassword [ null "!" "*" ]);
in
{
  system.stateVersion = mkDefault lib.trivial.release;
  time.timeZone = mkDefault cfg.identity.time_zone;
  i18n.defaultLocale = mkDefault cfg.identity.locale;
  console.keyMap = mkDefault cfg.identity.keyboard;
  services.xserver.xkb.layout = mkDefault cfg.identity.keyboard;

  # An image is replaced, not changed.
  nix.enable = mkForce false;
  system.switch.enable = mkForce false;
  system.disableInstallerTools = mkDefault true;
  system.etc.overlay = { enable = mkForce true; mutable = mkForce false; };
  systemd.sysusers.enable = mkForce true;
  # Paths of /bin and /usr/bin are links of the image.
  system.activationScripts.binsh = mkForce "";
  system.activationScripts.usrbinenv = mkForce "";

  # What is in the image is the same on every device: the machine id and the host keys are made on
  # the device, the host name is set by the agent.
  environment.etc = lib.listToAttrs (map
    (file: lib.nameValuePair (lib.removePrefix "/etc/" file.path) {
      text = mkDefault file.content;
      mode = mkDefault file.mode;
      user = mkDefault file.owner;
      group = mkDefault file.group;
    })
    cfg.files);

  documentation.enable = mkDefault false;
  boot.enableContainers = mkDefault false;
  programs.command-not-found.enable = mkDefault false;
  programs.nano.enable = mkDefault false;
  services.udisks2.enable = mkDefault false;
  services.logrotate.enable = mkDefault false;
  environment.stub-ld.enable = mkDefault false;
  xdg.autostart.enable = mkDefault false;
  xdg.icons.enable = mkDefault false;
  xdg.mime.enable = mkDefault false;
  xdg.sounds.enable = mkDefault false;

  # No console for logins: a device has no operator there.
  console.enable = mkDefault true;
  services.getty.autologinUser = mkDefault null;
  systemd.services."serial-getty@".enable = mkDefault false;
  systemd.services."getty@".enable = mkDefault false;
  systemd.services."autovt@".enable = mkDefault false;
  security.polkit.enable = mkDefault false;
  security.protectKernelImage = mkDefault false;
  systemd.coredump.enable = mkDefault false;

  assertions = [
    (refuse (config.services.getty.autologinUser == null) "extension.nixos"
      "services.getty.autologinUser logs in without a password")
    (refuse (!config.services.displayManager.autoLogin.enable) "extension.nixos"
      "services.displayManager.autoLogin logs in without a password")
    (refuse (!(lib.any isOpen users)) "extension.nixos"
      "a user has an empty password: ${toString (map (u: u.name) (lib.filter isOpen users))}")
    (refuse (!(lib.any hasPassword users)) "extension.nixos"
      "a user has a password, which every user of a device could read in the image: ${toString (map (u: u.name) (lib.filter hasPassword users))}")
    (refuse (config.networking.hostName == "") "extension.nixos"
      "networking.hostName is set: the host name is the device's, see identity.hostname")
    (refuse (!(config.environment.etc ? "machine-id")) "extension.nixos"
      "environment.etc.machine-id is set: each device has its own")
    (refuse (lib.all (unit: !(config.systemd.units.${unit}.enable or true)) [
      "systemd-sysupdate.timer" "systemd-sysupdate-reboot.timer" "systemd-sysupdate-update.timer"
    ]) "extension.nixos" "a timer of systemd-sysupdate is on: the agent decides about updates")
  ] ++ lib.imap0
    (i: file: refuse (lib.hasPrefix "/etc/" file.path) "files[${toString i}].path"
      "this base has files of a profile below /etc only")
    cfg.files
  ++ lib.concatLists (lib.imap0
    (i: file: [
      (refuse (config.users.users ? ${file.owner}) "files[${toString i}].owner"
        "there is no user ${file.owner}")
      (refuse (config.users.groups ? ${file.group}) "files[${toString i}].group"
        "there is no group ${file.group}")
    ])
    cfg.files);
}
