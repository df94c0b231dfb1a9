# The agent of a device, with its helper, its health checks and the data partition. It expects a
# disk as Fleeti makes it: two slots, an ESP, and free space for the data partition.
#
# The units are those of every base: their texts are in nix/overlay. A facts file and the public
# keys are at fixed paths below /usr/lib/fleeti, which the image has.
{ config, lib, ... }:
let
  inherit (lib) mkDefault mkEnableOption mkIf mkOption types;
  inherit (import ../lib.nix { inherit lib; }) shared unit;
  cfg = config.services.fleeti-agent;
  hasSsh = config.services.openssh.enable;

  always = [
    "fleeti-agent.service"
    "fleeti-blessed.service"
    "fleeti-boot-secrets.service"
    "fleeti-data.service"
    "fleeti-deadline.service"
    "fleeti-deadline.timer"
    "fleeti-health.service"
    "fleeti-helper.service"
    "fleeti-recovery-key.service"
    "fleeti-secrets.target"
    "fleeti-storage.service"
    "fleeti-var.service"
    "var-home.mount"
    "var-lib-fleeti.mount"
    # They take the place of systemd's own.
    "emergency.service"
    "rescue.service"
  ];
  # The name that the unit of the SSH server has here.
  renamed = lib.replaceStrings [ "ssh.service" ] [ "sshd.service" ];
  text = name: renamed (builtins.readFile (shared + "/${name}"));
in
{
  options.services.fleeti-agent = {
    enable = mkEnableOption "the Fleeti agent";
    files = mkOption {
      type = types.attrsOf types.path;
      default = { };
      description = ''
        Files of the image outside of /etc and the store, by their absolute path. The module that
        makes the image puts them there.
      '';
    };
    package = mkOption {
      type = types.path;
      description = "The executable of the agent. Units start it as /usr/lib/fleeti/fleeti-agent.";
    };
  };

  config = mkIf cfg.enable {
    services.fleeti-agent.files = {
      "/usr/lib/fleeti/fleeti-agent" = cfg.package;
      "/usr/lib/fleeti/repart/plain/50-data.conf" = shared + "/50-data.conf";
      "/usr/lib/fleeti/repart/sealed/50-data.conf" = shared + "/50-data-sealed.conf";
    };
    users.users.fleeti = {
      isSystemUser = true;
      uid = mkDefault 990;
      group = "fleeti";
      description = mkDefault "Fleeti agent";
    };
    users.groups.fleeti.gid = mkDefault 990;

    systemd.suppressedSystemUnits = [ "emergency.service" "rescue.service" ];
    systemd.units = lib.genAttrs (always ++ lib.optional hasSsh "fleeti-ssh-keys.service")
      (name: lib.mapAttrs (_: mkDefault) (unit (text name)));
    systemd.watchdog.runtimeTime = mkDefault "60s";
    systemd.watchdog.rebootTime = mkDefault "10min";
    # systemd-bless-boot.service takes the counter from the UKI's name.
    systemd.additionalUpstreamSystemUnits = [
      "boot-complete.target"
      "systemd-bless-boot.service"
      "systemd-boot-check-no-failures.service"
    ];
  };
}
