# A NixOS system from a resolved profile.
#
# nixpkgs: a directory with `nixos` and `lib`. input: what Fleeti writes (`Input` in
# fleeti-build/src/base/nixos/input.rs), as a set. pkgs: the package set.
{ nixpkgs, lib, pkgs, input, modules ? [ ] }:
import "${toString nixpkgs}/nixos/lib/eval-config.nix" {
  inherit lib pkgs;
  system = null;
  modules = import ./image-modules.nix ++ modules ++ [
    {
      _file = "the profile";
      config = {
        fleeti = {
          inherit (input) profile release command_line agent;
          trust = input.trust or { };
        };
        nixpkgs.hostPlatform = "${input.profile.architecture}-linux";
      };
    }
  ];
}
