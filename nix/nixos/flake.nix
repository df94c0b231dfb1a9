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

    # A system from the text of `fleeti profile show --resolved -o json` with a release.
    lib.system = { input, pkgs, modules ? [ ] }: import ./system.nix {
      inherit nixpkgs pkgs modules;
      inherit (nixpkgs) lib;
      input = builtins.fromJSON input;
    };
  };
}
