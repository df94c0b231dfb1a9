# Evaluates a profile with the modules of NixOS, and stand-ins for packages. All arguments are paths:
# nixpkgs (a directory with `nixos` and `lib`), input (JSON), names (JSON, a list of packages), and
# extension (a module, if the profile has one).
{ nixpkgs, input, names, extension ? "" }:
let
  read = path: builtins.fromJSON (builtins.readFile path);
  given = read input;
  lib = import (nixpkgs + "/lib");
  pkgs = import ./stub.nix {
    inherit lib;
    # A package that no module names may exist; only a package set can tell.
    names = read names ++ lib.filter (name: !(lib.hasInfix "." name)) given.profile.software.packages or [ ];
    system = "${given.profile.architecture}-linux";
  };
  system = import ./system.nix {
    inherit lib pkgs nixpkgs;
    input = given;
    modules = [ { _module.args.pkgs = lib.mkForce pkgs; } ]
      ++ lib.optional (extension != "") extension;
  };
in
import ./report.nix { inherit (system) config; inherit lib; }
