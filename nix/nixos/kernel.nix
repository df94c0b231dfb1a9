# Kernel, initrd, and the security settings that are made of them.
{ config, lib, pkgs, ... }:
let
  inherit (lib) mkDefault mkForce mkIf mkMerge;
  inherit (import ./lib.nix { inherit lib; }) refuse;
  cfg = config.fleeti.profile;

  drivers = {
    usb-storage = [ "xhci_pci" "ehci_pci" "usb_storage" "uas" ];
    mmc = [ "sdhci_pci" "sdhci_acpi" "mmc_block" ];
    raid = [ "megaraid_sas" "mpt3sas" "smartpqi" "hpsa" "aacraid" ];
  };
  # What the profile says counts more than defaults of modules, and less than a module of its own.
  settings = lib.mapAttrs (_: lib.mkOverride 900);

  # What NixOS itself puts on the command line of a boot loader that it writes.
  own = [ "root=fstab" "loglevel=4" ];
  extra = lib.filter (p: !(lib.elem p own)) config.boot.kernelParams;

  systemd = config.boot.initrd.systemd.package;
in
{
  boot.kernelModules = cfg.kernel.modules;
  boot.blacklistedKernelModules = cfg.kernel.blacklist;
  # `blacklist` is only about names that hardware asks for.
  boot.extraModprobeConfig = lib.concatMapStrings (m: "install ${m} /bin/false\n")
    cfg.kernel.blacklist;
  boot.kernel.sysctl = mkMerge [
    (mkIf cfg.security.hardened_sysctl (lib.mapAttrs (_: lib.mkOverride 950) {
      "kernel.kptr_restrict" = 2;
      "kernel.dmesg_restrict" = 1;
      "kernel.yama.ptrace_scope" = 1;
      "kernel.unprivileged_bpf_disabled" = 1;
      "net.core.bpf_jit_harden" = 2;
    }))
    (mkIf cfg.security.no_core_dumps {
      "kernel.core_pattern" = mkForce "|/bin/false";
      "fs.suid_dumpable" = mkForce 0;
    })
    (settings cfg.kernel.sysctl)
  ];

  systemd.coredump.enable = mkIf cfg.security.no_core_dumps (mkForce false);
  systemd.extraConfig = mkIf cfg.security.no_core_dumps "DefaultLimitCORE=0";
  security.pam.loginLimits = mkIf cfg.security.no_core_dumps [
    { domain = "*"; item = "core"; type = "hard"; value = "0"; }
    { domain = "root"; item = "core"; type = "hard"; value = "0"; }
  ];
  system.forbiddenDependenciesRegexes = mkIf cfg.security.no_compiler
    [ "-gcc-[0-9][0-9.]*$" "-clang-[0-9]" "-rustc-[0-9]" "-go-[0-9]" "-ghc-[0-9]" "-tcc-[0-9]" ];

  boot.loader.grub.enable = mkForce false;
  boot.initrd = {
    includeDefaultModules = mkDefault false;
    availableKernelModules = [
      "virtio_blk" "virtio_scsi" "virtio_pci" "sd_mod" "ahci" "nvme" "ata_piix" "vmd"
      "dm_mod" "dm_verity" "erofs" "overlay" "loop" "vfat" "nls_ascii" "nls_cp437" "efivarfs"
      "efi_pstore" "qemu_fw_cfg" "virtio_rng"
    ] ++ lib.concatMap (set: drivers.${set}) cfg.hardware.initrd_drivers;
    # A failed boot must reboot; otherwise boot counting does not reach the other slot.
    systemd = {
      enable = mkForce true;
      emergencyAccess = mkForce false;
      suppressedUnits = [ "emergency.service" "rescue.service" ];
      units = lib.genAttrs [ "emergency.service" "rescue.service" ] (name: {
        text = ''
          [Unit]
          Description=Reboot instead of ${name}
          DefaultDependencies=no
          SuccessAction=reboot-force
          FailureAction=reboot-force

          [Service]
          Type=oneshot
          ExecStart=/bin/bash -c 'echo "fleeti: the initrd failed, rebooting" >/dev/console'
        '';
      });
      extraConfig = "DefaultDeviceTimeoutSec=60s";
      # The root is the mapping of dm-verity that the command line names by its root hash.
      additionalUpstreamUnits =
        [ "veritysetup-pre.target" "veritysetup.target" "remote-veritysetup.target" ];
      storePaths = [
        "${systemd}/lib/systemd/systemd-veritysetup"
        "${systemd}/lib/systemd/system-generators/systemd-veritysetup-generator"
      ];
      extraBin.dmsetup = "${lib.getBin pkgs.lvm2}/bin/dmsetup";
      # NixOS finds what to activate by `init=`, which the command line of a device cannot have. The
      # image has a link in its place.
      services.initrd-nixos-activation.script = mkForce ''
        set -euo pipefail
        closure="$(dirname "$(readlink /sysroot/sbin/init)")"
        echo 'NEW_INIT=' > /etc/switch-root.conf
        mount --bind /run /sysroot/run
        export IN_NIXOS_SYSTEMD_STAGE1=true
        exec chroot /sysroot "$closure/prepare-root"
      '';
    };
  };

  assertions = [
    (refuse (extra == [ ]) "extension.nixos"
      "boot.kernelParams has ${lib.concatStringsSep " " extra}: the command line is fixed, and kernel.arguments is what can be added")
  ];
}
