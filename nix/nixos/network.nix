# Interfaces, names, time, proxy and packet filter.
{ config, lib, pkgs, utils, ... }:
let
  inherit (lib) mkDefault mkForce mkIf optionalAttrs;
  cfg = config.fleeti.profile.network;

  # A list of settings with the same name, or none.
  many = name: values: optionalAttrs (values != [ ]) { ${name} = values; };
  one = name: value: optionalAttrs (value != null) { ${name} = value; };

  # Each setting gives way to a module. All together would give way to what NixOS itself sets.
  each = lib.mapAttrs (_: mkDefault);
  network = i:
    let isMember = i.bridge != null || i.bond != null; in {
      matchConfig = each (
        one "Name" i.match.name
        // one "MACAddress" i.match.mac
        # VLANs, bridges and bonds take over the address of an interface below them.
        // optionalAttrs (i.match.mac != null && i.match.name == null) { Kind = "!*"; }
        // one "Driver" i.match.driver);
      linkConfig = mkIf (i.mtu > 0) (each { MTUBytes = toString i.mtu; });
      networkConfig = each (
        (if isMember
        # The addresses are those of the bridge or the bond.
        then { DHCP = "no"; LinkLocalAddressing = "no"; IPv6AcceptRA = false; }
        else { DHCP = i.dhcp; })
        // one "Bridge" i.bridge
        // one "Bond" i.bond
        // many "DNS" i.dns);
      address = mkDefault i.addresses;
      gateway = mkDefault i.gateways;
      vlan = mkDefault i.vlans;
    };
  # The first file that matches an interface is for it.
  ordered = index: lib.fixedWidthNumber 3 index;

  made =
    map
      (v: lib.nameValuePair v.name {
        netdevConfig = { Name = v.name; Kind = "vlan"; };
        vlanConfig.Id = v.id;
      })
      cfg.vlans
    ++ map
      (b: lib.nameValuePair b.name {
        netdevConfig = { Name = b.name; Kind = "bridge"; };
        bridgeConfig.STP = b.spanning_tree;
      })
      cfg.bridges
    ++ map
      (b: lib.nameValuePair b.name {
        netdevConfig = { Name = b.name; Kind = "bond"; };
        # Without monitoring the kernel does not notice a link that went down.
        bondConfig = { Mode = b.mode; MIIMonitorSec = "100ms"; };
      })
      cfg.bonds;

  rules = direction: lib.filter (rule: rule.direction == direction) cfg.firewall.rules;
  accept = rule:
    let
      interface = lib.optionalString (rule.interface != null) "iifname \"${rule.interface}\" ";
      family = from: if lib.hasInfix ":" from then "ip6" else "ip";
      sources = if rule.from == [ ] then [ "" ] else map (f: "${family f} saddr ${f} ") rule.from;
    in
    # A line for each range: nft(8) refuses ranges that overlap in one set.
    lib.concatMapStrings
      (from: lib.concatMapStrings
        (ports: "    ${interface}${from}${rule.protocol} dport ${ports} accept comment \"${rule.name}\"\n")
        rule.ports)
      sources;
  # ICMP and ICMPv6 are 1 and 58.
  always = ''
    ct state established,related accept
    ct state invalid drop
    meta l4proto { 1, 58 } accept
  '';
  chain = name: first: direction: ''
    chain ${name} {
      type filter hook ${name} priority filter; policy drop;
      ${lib.replaceStrings [ "\n" ] [ "\n  " ] (lib.removeSuffix "\n" (always + first))}
    ${lib.concatMapStrings accept (rules direction)}}
  '';
  dhcp = ''
    iif lo accept
    meta nfproto ipv4 udp sport 67 udp dport 68 accept
    ip6 saddr fe80::/10 udp sport 547 udp dport 546 accept
  '';

  # Programs on the device that talk to it itself never go through the proxy.
  except = lib.concatStringsSep "," (lib.unique (
    [ "localhost" "127.0.0.1" "::1" ] ++ lib.filter (e: e != "") cfg.proxy.except));
  proxy =
    let of = values: values // lib.mapAttrs' (n: lib.nameValuePair (lib.toUpper n)) values;
    in of { http_proxy = cfg.proxy.url; https_proxy = cfg.proxy.url; no_proxy = except; };
  hasProxy = cfg.proxy.url != null;
  words = lib.mapAttrsToList (name: value: utils.escapeSystemdExecArg "${name}=${value}") proxy;
  # The agent has a proxy of its own, which is that of the device.
  direct = unit: pkgs.writeTextDir "etc/systemd/system/${unit}.service.d/10-proxy.conf" ''
    [Service]
    UnsetEnvironment=${lib.concatStringsSep " " (lib.attrNames proxy)}
  '';
in
{
  networking = {
    # The host name is the device's, not the image's: the agent sets it.
    hostName = mkDefault "";
    useNetworkd = mkDefault true;
    useDHCP = mkDefault false;
    # The rules of the profile are a table of their own.
    firewall.enable = mkForce false;
    nftables.enable = mkDefault cfg.firewall.enabled;
    nftables.tables = mkIf cfg.firewall.enabled {
      fleeti = {
        family = "inet";
        content = chain "input" dhcp "incoming"
          # Without a rule for it nothing that passes through is filtered: containers have own rules.
          + lib.optionalString (rules "forward" != [ ]) (chain "forward" "" "forward");
      };
    };
    timeServers = mkIf (cfg.time.servers != [ ]) (mkDefault cfg.time.servers);
  };
  environment.sessionVariables = mkIf hasProxy (lib.mapAttrs (_: mkDefault) proxy);
  systemd.extraConfig = mkIf hasProxy "DefaultEnvironment=${lib.concatStringsSep " " words}";
  systemd.packages = mkIf hasProxy
    (map direct [ "fleeti-agent" "fleeti-helper" "fleeti-health" ]);

  systemd.network = {
    enable = mkDefault true;
    wait-online.enable = mkDefault false;
    networks = lib.listToAttrs (
      lib.imap0 (n: i: lib.nameValuePair "05-${ordered n}-${i.name}" (network i)) cfg.interfaces
      ++ map
        (m: lib.nameValuePair "06-${m.name}" {
          matchConfig.Name = mkDefault m.name;
          networkConfig.DHCP = mkDefault "yes";
        })
        made
      ++ [
        (lib.nameValuePair "10-ethernet" {
          matchConfig.Type = mkDefault "ether";
          networkConfig.DHCP = mkDefault "yes";
        })
      ]);
    netdevs = lib.listToAttrs (
      map (m: lib.nameValuePair "05-${m.name}" (lib.mapAttrs (_: each) m.value)) made);
  };

  services.resolved = {
    enable = mkDefault true;
    domains = mkDefault cfg.dns.search;
    dnsovertls = mkDefault {
      no = "false";
      opportunistic = "opportunistic";
      yes = "true";
    }.${cfg.dns.over_tls};
    llmnr = mkDefault "false";
    dnssec = mkDefault (if cfg.dns.dnssec then "true" else "false");
  };
  networking.nameservers = mkDefault cfg.dns.servers;
  services.timesyncd.enable = mkDefault true;
}
