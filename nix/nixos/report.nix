# What an evaluated system says about itself, as a set that becomes JSON.
{ config, lib }:
let
  cfg = config.fleeti.profile;
  ofFleeti = name: lib.hasPrefix "fleeti-" name || lib.hasPrefix "var-" name
    || lib.elem name [ "emergency.service" "rescue.service" ];
  ofProfile = map (s: s.name) cfg.services
    ++ map (t: lib.removeSuffix ".service" t.service + ".timer") cfg.timers;
  isMount = name: lib.hasSuffix ".mount" name;
  isShown = name: ofFleeti name || isMount name || lib.elem name ofProfile
    || lib.elem name [ "sshd.service" "nftables.service" "systemd-sysusers.service" ];
  units = config.systemd.units;
  on = lib.filterAttrs (_: unit: unit.enable) units;

  # Stores have other hashes each time; a name says what it is.
  plain = value: lib.mapAttrsRecursive (_: v: if lib.isDerivation v then toString v else v) value;
  text = entry: if entry.text != null then entry.text else toString entry.source;
  etc = path: lib.optionalAttrs (config.environment.etc ? ${path}) {
    ${path} = text config.environment.etc.${path};
  };
in
{
  # Failed assertions do not stop the report: each names its field.
  assertions = map (a: a.message) (lib.filter (a: !a.assertion) config.assertions);
  warnings = config.warnings;
  profile = cfg;
  nixos = lib.trivial.release;

  users = lib.mapAttrs
    (_: u: {
      inherit (u) uid group home extraGroups description initialHashedPassword hashedPassword;
      shell = toString u.shell;
      keys = lib.length u.openssh.authorizedKeys.keys;
    })
    (lib.filterAttrs (name: _: !(lib.hasPrefix "nixbld" name)) config.users.users);
  groups = lib.mapAttrs (_: g: g.gid) config.users.groups;
  sysusers = config.environment.etc."sysusers.d".source.text or "";

  units = lib.mapAttrs
    (_: unit: { inherit (unit) text wantedBy requiredBy; })
    (lib.filterAttrs (name: _: isShown name) on);
  unit_names = lib.attrNames on;
  masked = lib.attrNames (lib.filterAttrs (_: unit: !unit.enable) units);
  initrd_units = lib.mapAttrs (_: unit: unit.text) (lib.filterAttrs
    (name: _: lib.elem name [ "emergency.service" "rescue.service" "initrd-nixos-activation.service" ])
    config.boot.initrd.systemd.units);
  initrd = {
    inherit (config.boot.initrd.systemd) enable emergencyAccess;
    modules = lib.sort lib.lessThan config.boot.initrd.availableKernelModules;
    upstream = config.boot.initrd.systemd.additionalUpstreamUnits;
  };

  transfers = plain config.systemd.sysupdate.transfers;
  partitions = lib.mapAttrs
    (_: p: {
      config = p.repartConfig;
      contents = lib.mapAttrs (_: c: baseNameOf (toString c.source)) p.contents;
    })
    config.image.repart.partitions;
  uki = {
    inherit (config.boot.uki) name version tries;
    file = config.system.boot.loader.ukiFile;
    settings = plain config.boot.uki.settings;
  };
  facts = config.services.fleeti-agent.files."/usr/lib/fleeti/image.json".text or "";

  etc = lib.foldl' (all: path: all // etc path) { } (
    [ "hostname" "machine-id" "sudoers" "systemd/resolved.conf"
      "systemd/timesyncd.conf" "systemd/system.conf" "locale.conf" "modprobe.d/nixos.conf" ]
    ++ map (f: lib.removePrefix "/etc/" f.path) cfg.files);
  ssh = lib.optionalAttrs config.services.openssh.enable {
    settings = plain config.services.openssh.settings;
    inherit (config.services.openssh) extraConfig;
  };
  networks = lib.mapAttrs (_: unit: unit.text) config.systemd.network.units;
  nftables = lib.mapAttrs (_: table: table.content) config.networking.nftables.tables;
  sysctl = plain config.boot.kernel.sysctl;
  modules = { load = config.boot.kernelModules; blacklist = config.boot.blacklistedKernelModules; };
  packages = lib.sort lib.lessThan (lib.unique (map (p: p.name or "unnamed")
    config.environment.systemPackages));
}
