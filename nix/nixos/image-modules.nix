# The modules of an image.
[
  ./profile.nix
  ./base.nix
  ./accounts.nix
  ./services.nix
  ./network.nix
  ./kernel.nix
  ./image.nix
  ./modules/fleeti-agent.nix
]
