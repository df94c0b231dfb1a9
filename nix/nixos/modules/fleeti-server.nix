# The Fleeti server and its signing service on a NixOS machine. The units are those of the Debian
# packages, with the programs of `package`. Keys are installed as there: `fleeti-install-keys DIR`.
{ config, lib, ... }:
let
  inherit (lib) mkDefault mkEnableOption mkIf mkOption types;
  inherit (import ../lib.nix { inherit lib; }) unit;
  cfg = config.services.fleeti-server;
  program = lib.replaceStrings [ "/usr/bin/" ] [ "${cfg.package}/bin/" ];
  of = file: lib.mapAttrs (_: mkDefault) (unit (program (builtins.readFile file)));
  variables = values: lib.concatStrings
    (lib.mapAttrsToList (name: value: "${name}=${value}\n") values);
in
{
  options.services.fleeti-server = {
    enable = mkEnableOption "the Fleeti server, with its signing service";
    package = mkOption {
      type = types.package;
      description = "A package with the programs fleeti-server, fleeti-signer and fleeti.";
    };
    options = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "--api" "0.0.0.0:8080" ];
      description = "Options of fleeti-server, as in docs/reference/configuration.md.";
    };
    crlUrl = mkOption {
      type = types.str;
      example = "http://fleet.example.com/crl";
      description = "Address of the CRLs, which is written into certificates.";
    };
    openFirewall = mkOption {
      type = types.bool;
      default = false;
      description = "Whether devices reach the ports 8443 (HTTPS) and 8883 (MQTT).";
    };
  };

  config = mkIf cfg.enable {
    assertions = [
      {
        assertion = !(lib.any (o: lib.hasInfix "passphrase" o || lib.hasInfix "password" o) cfg.options);
        message = "services.fleeti-server.options: a secret in an option is in the store, which every user can read";
      }
      {
        assertion = builtins.match "https?://[^ \n]+" cfg.crlUrl != null;
        message = "services.fleeti-server.crlUrl: ${cfg.crlUrl} is not an http address";
      }
    ];
    users.users.fleeti = { isSystemUser = true; group = "fleeti"; };
    users.users.fleeti-signer = { isSystemUser = true; group = "fleeti-signer"; };
    users.groups.fleeti = { };
    users.groups.fleeti-signer = { };
    environment.systemPackages = [ cfg.package ];
    environment.etc."fleeti/server.conf".text =
      variables { FLEETI_OPTIONS = lib.concatStringsSep " " cfg.options; };
    environment.etc."fleeti/signer.conf".text = variables { CRL_URL = cfg.crlUrl; };
    systemd.units."fleeti-server.service" = of ../../../fleeti-server/fleeti-server.service;
    systemd.units."fleeti-signer.service" = of ../../../fleeti-signer/fleeti-signer.service;
    networking.firewall.allowedTCPPorts = mkIf cfg.openFirewall [ 8443 8883 ];
  };
}
