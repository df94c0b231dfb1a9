# The options `fleeti.profile`: the fields of a profile that this base honours, with the types and
# defaults that they have in Fleeti. A field that is not here is refused as an option that does not
# exist. The test `the_options_are_the_fields_that_the_base_honours` compares both lists.
{ lib, ... }:
let
  inherit (lib) mkOption types;
  inherit (types)
    attrsOf bool either enum int listOf nullOr str strMatching submodule;

  value = type: default: mkOption { inherit type default; };
  required = type: mkOption { inherit type; };
  text = value str;
  flag = value bool;
  texts = value (listOf str) [ ];
  optional = type: value (nullOr type) null;
  table = options: mkOption { type = submodule { inherit options; }; default = { }; };
  tables = options: mkOption { type = listOf (submodule { inherit options; }); default = [ ]; };

  between = types.ints.between;
  port = types.ints.u16;
  # A name that becomes a part of a unit, a file or an attribute.
  label = strMatching "[A-Za-z0-9_][A-Za-z0-9_.@-]*";
  account = strMatching "[a-z_][a-z0-9_-]{0,30}";
  mode = strMatching "0?[0-7]{3}";
  path = strMatching "/[^\n]*";
in
{
  options.fleeti.profile = {
    schema = required (enum [ 1 ]);
    name = required label;
    description = text "";
    base = value (enum [ "debian" "nixos" ]) "debian";
    architecture = required (enum [ "x86_64" "aarch64" ]);

    identity = table {
      hostname = text "{id}";
      locale = text "C.UTF-8";
      time_zone = text "Etc/UTC";
      keyboard = text "us";
    };

    users = tables {
      name = required account;
      comment = text "";
      id = optional (between 1000 59999);
      groups = value (listOf account) [ ];
      ssh_keys = texts;
      shell = value path "/bin/bash";
    };
    groups = tables {
      name = required account;
      id = optional (between 1000 59999);
    };
    sudo = tables {
      name = required label;
      users = texts;
      groups = texts;
      commands = required (listOf str);
      run_as = text "root";
      no_password = flag false;
    };

    software = table { packages = texts; };

    services = tables {
      name = required str;
      state = value (enum [ "enabled" "disabled" "masked" ]) "enabled";
      unit = optional str;
      drop_ins = tables {
        name = required label;
        text = required str;
      };
    };
    timers = tables {
      service = required (strMatching ".+\\.service");
      on_calendar = required str;
      persistent = flag false;
      random_delay_s = value (between 0 86400) 0;
    };
    containers = tables {
      name = required label;
      image = required str;
      command = texts;
      ports = texts;
      volumes = texts;
      environment = value (attrsOf str) { };
      read_only = flag true;
    };

    network = table {
      interfaces = tables {
        name = required label;
        match = table {
          name = optional str;
          mac = optional str;
          driver = optional str;
        };
        dhcp = value (enum [ "yes" "no" "ipv4" "ipv6" ]) "yes";
        addresses = texts;
        gateways = texts;
        dns = texts;
        mtu = value port 0;
        vlans = texts;
        bridge = optional str;
        bond = optional str;
      };
      vlans = tables {
        name = required str;
        id = required (between 1 4094);
      };
      bridges = tables {
        name = required str;
        spanning_tree = flag false;
      };
      bonds = tables {
        name = required str;
        mode = value (enum [ "active-backup" "802.3ad" "balance-rr" ]) "active-backup";
      };
      dns = table {
        servers = texts;
        search = texts;
        over_tls = value (enum [ "no" "opportunistic" "yes" ]) "no";
        dnssec = flag false;
      };
      time = table { servers = texts; };
      proxy = table {
        url = optional str;
        except = texts;
      };
      firewall = table {
        enabled = flag false;
        rules = tables {
          name = required str;
          direction = value (enum [ "incoming" "forward" ]) "incoming";
          service = optional str;
          protocol = value (enum [ "tcp" "udp" ]) "tcp";
          ports = value (listOf (strMatching "[0-9]{1,5}(-[0-9]{1,5})?")) [ ];
          from = texts;
          interface = optional str;
        };
      };
    };

    files = tables {
      path = required path;
      content = required str;
      mode = value mode "0644";
      owner = value account "root";
      group = value account "root";
    };
    secrets = tables {
      name = required label;
      boot = flag false;
      try_minutes = value (between 1 1440) 10;
      restart = texts;
      server_proxy = flag false;
    };

    kernel = table {
      flavour = value (enum [ "cloud" "generic" ]) "cloud";
      arguments = texts;
      modules = texts;
      blacklist = texts;
      sysctl = value (attrsOf str) { };
    };
    hardware = table {
      initrd_drivers = value (listOf (enum [ "usb-storage" "mmc" "raid" ])) [ ];
    };

    security = table {
      ssh = table {
        allow_groups = texts;
        forwarding = flag true;
        idle_timeout_s = value (between 0 86400) 0;
        attempts_max = value (between 1 20) 6;
      };
      lockdown = value (enum [ "automatic" "integrity" "confidentiality" ]) "automatic";
      access_control = value (enum [ "base" ]) "base";
      no_compiler = flag false;
      no_core_dumps = flag false;
      hardened_sysctl = flag false;
    };

    storage = table {
      esp_mib = value (between 256 4096) 512;
      root_mib = value (between 256 65536) 768;
      var_mib = value (between 64 65536) 256;
    };
    state = table {
      # Not honoured: the default, which every profile has, and no other value. So are
      # `on_reset` and `security.access_control`.
      version = value (enum [ 1 ]) 1;
      directories = tables {
        path = required path;
        owner = value account "root";
        group = value account "root";
        mode = value mode "0755";
        on_reset = value (enum [ "wipe" ]) "wipe";
      };
    };

    health_checks = tables {
      name = required str;
      command = texts;
      unit = optional str;
      http = optional str;
      tcp = optional str;
      file = optional str;
      disk = optional str;
      memory_free_mib = optional types.ints.unsigned;
      timeout_s = value types.ints.unsigned 30;
      weight = value (between 1 100) 100;
    };
    release_log = table {
      optional = flag false;
      age_days_max = value types.ints.unsigned 7;
    };
    server_contact = table {
      optional = flag false;
      deadline_s = value types.ints.unsigned 600;
    };

    extension = table {
      # For another base.
      debian = text "";
      # A file of its own, which the evaluation imports.
      nixos = text "";
    };
  };

  options.fleeti = {
    release = {
      version = required (strMatching "[0-9][0-9a-z.]*");
      minimum = required (strMatching "[0-9][0-9a-z.]*");
    };
    # The kernel command line, with @ROOT_HASH@ where the root hash goes. The signing service
    # accepts no other.
    command_line = required str;
    # The executable of the agent.
    agent = required types.path;
    # Public keys, by the path in the image that they have.
    trust = value (attrsOf types.path) { };
  };
}
