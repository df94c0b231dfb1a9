# A stand-in for the packages of nixpkgs: each package is a name. With it the modules of NixOS
# evaluate without a package set; nothing of it can be built.
#
# `names` is every attribute that the modules ask `pkgs` for.
{ lib, names, system }:
let
  platform = lib.systems.elaborate system;
  hash = "00000000000000000000000000000000";

  fake = name:
    let
      self = {
        type = "derivation";
        inherit name system;
        pname = name;
        version = "257.3";
        outPath = "/nix/store/${hash}-${name}";
        drvPath = "/nix/store/${hash}-${name}.drv";
        outputName = "out";
        outputs = [ "out" ];
        out = self;
        bin = self;
        dev = self;
        lib = self;
        man = self;
        doc = self;
        terminfo = self;
        passthru = { };
        modules = [ ];
        meta = { mainProgram = name; priority = 5; license = { }; platforms = [ ]; };
        override = _: self;
        overrideAttrs = _: self;
        overrideDerivation = _: self;
        withPackages = _: self;
        shellPath = "/bin/${name}";
      };
    in
    self;
  named = arguments: fake (arguments.name or arguments.pname or "unnamed");
  # What a derivation would be made of, so that tests can read it.
  written = name: text: fake name // { inherit text; };

  format = {
    type = lib.types.attrsOf lib.types.anything;
    generate = name: value: fake name // { inherit value; };
    lib = { };
  };
  formats = lib.genAttrs [
    "cdn" "configobj" "elixirConf" "gitIni" "hcl1" "hocon" "ini" "iniWithGlobalSection"
    "javaProperties" "json" "keyValue" "libconfig" "lua" "nixConf" "php" "pythonVars" "toml" "xml"
    "yaml" "yaml_1_1" "yaml_1_2"
  ] (_: _: format) // { systemd = format; };

  stdenv = {
    hostPlatform = platform;
    buildPlatform = platform;
    targetPlatform = platform;
    inherit (platform) system is64bit isLinux isx86_64 isAarch64;
    cc = fake "gcc" // { libc = fake "glibc"; cc = fake "gcc"; };
    shell = "/bin/sh";
    mkDerivation = a: if builtins.isAttrs a then named a else fake "unnamed";
  };

  features = lib.genAttrs [
    "withBootloader" "withCryptsetup" "withEfi" "withFido2" "withHomed" "withHostnamed"
    "withImportd" "withLocaled" "withMachined" "withNetworkd" "withPortabled" "withRepart"
    "withResolved" "withSysupdate" "withTimedated" "withTimesyncd" "withTpm2Tss" "withTpm2Units"
    "withUkify" "withUtmp" "withVmspawn"
  ] (_: true);
  systemd = fake "systemd" // features // {
    interfaceVersion = 2;
    kbd = fake "kbd";
    kmod = fake "kmod";
    util-linux = fake "util-linux";
  };

  kernelPackages = {
    kernel = fake "linux" // {
      version = "6.12.0";
      modDirVersion = "6.12.0";
      features = { };
      config = {
        isEnabled = _: true;
        isYes = _: true;
        isModule = _: true;
        isDisabled = _: false;
      };
      kernelAtLeast = _: true;
      kernelOlder = _: false;
      isHardened = false;
      commonMakeFlags = [ ];
      buildDTBs = false;
      inherit stdenv;
    };
    kernelAtLeast = _: true;
    kernelOlder = _: false;
    extend = _: kernelPackages;
  };

  packages = lib.genAttrs names fake;
  pkgs = packages // {
    inherit lib stdenv formats systemd system;
    stdenvNoCC = stdenv;
    hostPlatform = platform;
    buildPlatform = platform;
    targetPlatform = platform;
    config = { allowUnfree = false; allowAliases = false; };
    path = ./.;
    overlays = [ ];

    writeText = written;
    writeTextDir = path: text: written (baseNameOf path) text // { inherit path; };
    writeTextFile = a: written a.name a.text;
    writeScript = written;
    writeScriptBin = written;
    writeShellScript = written;
    writeShellScriptBin = written;
    writeShellApplication = named;
    writers = {
      writeBash = written;
      writeBashBin = written;
      writeDash = written;
      writeDashBin = written;
      writeNginxConfig = written;
      writeJSON = name: _: fake name;
      writeTOML = name: _: fake name;
      writeYAML = name: _: fake name;
      writePython3 = name: _: written name;
      writePython3Bin = name: _: written name;
      writePerl = name: _: written name;
    };
    runCommand = name: _: command: fake name // { inherit command; };
    runCommandLocal = pkgs.runCommand;
    runCommandCC = pkgs.runCommand;
    buildEnv = named;
    symlinkJoin = named;
    linkFarm = name: _: fake name;
    concatText = name: _: fake name;
    concatTextFile = named;
    substituteAll = named;
    replaceVars = _: _: fake "replaced";
    replaceVarsWith = _: fake "replaced";
    callPackage = _: _: fake "called";
    closureInfo = _: fake "closure";
    makeInitrd = _: fake "initrd";
    makeInitrdNG = _: fake "initrd";
    makeInitrdNGTool = fake "make-initrd-ng";
    makeModulesClosure = _: fake "modules";

    linuxPackages = kernelPackages;
    linuxPackages_latest = kernelPackages;
    linuxPackagesFor = _: kernelPackages;
    linuxKernel = { packages = { }; kernels = { }; };
    kernelPatches = { };

    pkgsStatic = pkgs;
    pkgsMusl = pkgs;
    pkgsi686Linux = pkgs;
    pkgsCross = { };
    buildPackages = pkgs;
    pkgsBuildHost = pkgs;
    pkgsBuildBuild = pkgs;
    extend = _: pkgs;
    appendOverlays = _: pkgs;
    recurseIntoAttrs = set: set;
    unixtools = packages;
    perlPackages = packages;
    python3Packages = packages;
  };
in
pkgs
