# The image: root with dm-verity, UKI with boot counting, transfers of updates.
{ config, lib, modulesPath, pkgs, ... }:
let
  inherit (lib) mkDefault mkForce;
  inherit (import ./lib.nix { inherit lib; }) sections shared;
  inherit (config.fleeti) release;
  cfg = config.fleeti.profile;
  toplevel = config.system.build.toplevel;
  efi = config.nixpkgs.hostPlatform.efiArch;

  label = "${cfg.name}_${release.version}";
  sized = mib: { SizeMinBytes = "${toString mib}M"; SizeMaxBytes = "${toString mib}M"; };
  # A hash tree of SHA-256 over blocks of 4 KiB has a 127th of the size of its data; a slot has room
  # for twice as much.
  verity = lib.max 16 (builtins.div (cfg.storage.root_mib + 63) 64);

  transfer = name: lib.mapAttrsRecursive
    (_: lib.replaceStrings [ "@LINE@" "@MINIMUM@" ] [ cfg.name release.minimum ])
    (sections (builtins.readFile (shared + "/${name}.transfer")));

  facts = {
    minimum_version = release.minimum;
    inherit (cfg.identity) hostname;
    health_checks = cfg.health_checks ++ lib.optional cfg.network.firewall.enabled {
      name = "the packet filter is loaded";
      command = [ "/usr/bin/systemctl" "is-active" "--quiet" "nftables.service" ];
      timeout_s = 30;
    };
    inherit (cfg) release_log server_contact;
    boot_secrets = lib.filter (secret: secret.boot) cfg.secrets;
  };

  # Paths that the agent and texts of units know. What is in them is found in the store.
  links = {
    "/sbin/init" = "${toplevel}/init";
    "/bin/sh" = "${pkgs.bashInteractive}/bin/sh";
    "/bin/bash" = "${pkgs.bashInteractive}/bin/bash";
    "/bin/false" = "${pkgs.coreutils}/bin/false";
    "/usr/bin" = "${config.system.path}/bin";
    "/usr/sbin" = "${config.system.path}/sbin";
    "/usr/lib/systemd/systemd-sysupdate" = "${config.systemd.package}/lib/systemd/systemd-sysupdate";
    "/usr/lib/fleeti/sysupdate.d" = "${config.environment.etc."sysupdate.d".source}";
  };
  folders = [
    "/boot" "/data" "/dev" "/efi" "/etc" "/home" "/mnt" "/opt" "/proc" "/root" "/run" "/srv" "/sys"
    "/tmp" "/usr/lib/fleeti" "/usr/lib/systemd" "/var"
  ] ++ map (d: d.path) (lib.filter (d: !(lib.hasPrefix "/var/" d.path)) cfg.state.directories);
  skeleton = pkgs.runCommand "fleeti-root" { } (
    "mkdir -p $out/bin $out/sbin $out/usr"
    + lib.concatMapStrings (path: " \"$out\"${lib.escapeShellArg path}") folders
    + "\n"
    + lib.concatStrings (lib.mapAttrsToList
      (path: target: "ln -s ${target} $out${path}\n")
      links));

  plain = (pkgs.formats.ini { }).generate "ukify.conf" config.boot.uki.settings;

  off = [
    # Up to systemd 261, and since 262.
    "systemd-sysupdate.service"
    "systemd-sysupdate.timer"
    "systemd-sysupdate-update.service"
    "systemd-sysupdate-update.timer"
    "systemd-sysupdate-reboot.service"
    "systemd-sysupdate-reboot.timer"
  ];
in
{
  imports = [ "${modulesPath}/image/repart.nix" ];

  system.image.id = mkForce cfg.name;
  system.image.version = mkForce release.version;
  fileSystems."/" = {
    device = "/dev/mapper/root";
    fsType = "erofs";
    options = [ "ro" ];
  };
  # In memory. Units bind persistent folders from /data.
  fileSystems."/var" = {
    device = "tmpfs";
    fsType = "tmpfs";
    options = [ "mode=0755" "nodev" "nosuid" "size=${toString cfg.storage.var_mib}M" ];
    neededForBoot = true;
  };

  boot.uki = {
    name = mkForce cfg.name;
    version = mkForce release.version;
    tries = mkForce 3;
    # The root hash is known when the root is made.
    configFile = mkForce (pkgs.runCommand "ukify.conf" { nativeBuildInputs = [ pkgs.jq ]; } ''
      hash=$(jq -r '[.[] | select(.roothash? != null) | .roothash] | first' \
        ${config.system.build.image}/repart-output.json)
      sed "s/@ROOT_HASH@/$hash/" ${plain} > $out
    '');
    settings.UKI = {
      Cmdline = mkForce config.fleeti.command_line;
      SBAT = mkDefault "sbat,1,SBAT Version,sbat,1,https://github.com/rhboot/shim/blob/main/SBAT.md";
    };
  };

  # The timers are off: the agent decides when a device updates, and gives the URL.
  systemd.sysupdate = {
    enable = mkForce true;
    transfers = lib.genAttrs [ "10-verity" "20-root" "30-uki" ]
      (name: lib.mapAttrs (_: mkForce) (transfer name));
  };
  systemd.units = lib.genAttrs off (_: { enable = mkForce false; });

  services.fleeti-agent = {
    enable = mkForce true;
    package = mkForce config.fleeti.agent;
    files = {
      "/usr/lib/fleeti/image.json" = pkgs.writeText "image.json" (builtins.toJSON facts);
    } // config.fleeti.trust;
  };

  image.repart = {
    name = mkDefault cfg.name;
    # Partitions can be taken one by one: a release has them as files.
    split = mkDefault true;
    partitions = {
      "00-esp" = {
        contents = {
          "/EFI/BOOT/BOOT${lib.toUpper efi}.EFI".source =
            "${config.systemd.package}/lib/systemd/boot/efi/systemd-boot${efi}.efi";
        };
        repartConfig = { Type = "esp"; Format = "vfat"; } // sized cfg.storage.esp_mib;
      };
      "10-root-a" = {
        storePaths = [ toplevel ];
        contents = {
          "/".source = skeleton;
        } // lib.mapAttrs (_: source: { inherit source; }) config.services.fleeti-agent.files;
        repartConfig = {
          Type = "root";
          Label = label;
          Format = "erofs";
          Verity = "data";
          VerityMatchKey = "root";
          ReadOnly = "yes";
          SplitName = "root";
        } // sized cfg.storage.root_mib;
      };
      "11-verity-a".repartConfig = {
        Type = "root-verity";
        Label = "${label}_verity";
        Verity = "hash";
        VerityMatchKey = "root";
        ReadOnly = "yes";
        SplitName = "verity";
      } // sized verity;
      "20-root-b".repartConfig =
        { Type = "root"; Label = "_empty"; SplitName = "-"; } // sized cfg.storage.root_mib;
      "21-verity-b".repartConfig =
        { Type = "root-verity"; Label = "_empty"; SplitName = "-"; } // sized verity;
    };
  };
}
