{
  description = "Fleeti: NixOS modules, and NixOS systems from resolved profiles";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-25.05";

  outputs = { nixpkgs, ... }: {
    nixosModules = {
      fleeti-agent = ./modules/fleeti-agent.nix;
      fleeti-server = ./modules/fleeti-server.nix;
      # The modules of an image, with the options `fleeti.profile`.
      image = { imports = import ./image-modules.nix; };
    };

    # A system from a JSON text with `profile` (as `fleeti profile show --resolved -o json` has it),
    # `release` with `version` and `minimum`, `command_line`, and `agent`, the path of its executable.
    lib.system = { input, pkgs, modules ? [ ] }:
      let
        read = builtins.fromJSON input;
        extension = read.profile.extension.nixos or "";
      in
      import ./system.nix {
        inherit nixpkgs pkgs;
        inherit (nixpkgs) lib;
        input = read;
        modules = modules ++ nixpkgs.lib.optional (extension != "")
          (builtins.toFile "extension.nix" extension);
      };
  };
}
