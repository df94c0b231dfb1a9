# Evaluates the module of the server with the modules of NixOS, and stand-ins for packages.
{ nixpkgs, names, options ? [ ] }:
let
  lib = import (nixpkgs + "/lib");
  pkgs = import ./stub.nix {
    inherit lib;
    names = builtins.fromJSON (builtins.readFile names);
    system = "x86_64-linux";
  };
  inherit (import "${toString nixpkgs}/nixos/lib/eval-config.nix" {
    inherit lib pkgs;
    system = null;
    modules = [
      ./modules/fleeti-server.nix
      {
        _module.args.pkgs = lib.mkForce pkgs;
        nixpkgs.hostPlatform = "x86_64-linux";
        system.stateVersion = lib.trivial.release;
        boot.loader.grub.enable = false;
        fileSystems."/" = { device = "/dev/disk/by-label/nixos"; fsType = "ext4"; };
        services.fleeti-server = {
          enable = true;
          package = pkgs.writeText "fleeti" "";
          inherit options;
          crlUrl = "http://fleet.example.com/crl";
          openFirewall = true;
        };
      }
    ];
  }) config;
in
{
  assertions = map (a: a.message) (lib.filter (a: !a.assertion) config.assertions);
  units = lib.mapAttrs (_: unit: { inherit (unit) text wantedBy; })
    (lib.filterAttrs (name: _: lib.hasPrefix "fleeti-" name) config.systemd.units);
  etc = lib.genAttrs [ "fleeti/server.conf" "fleeti/signer.conf" ]
    (name: config.environment.etc.${name}.text);
  users = lib.filter (lib.hasPrefix "fleeti") (lib.attrNames config.users.users);
  ports = config.networking.firewall.allowedTCPPorts;
}
