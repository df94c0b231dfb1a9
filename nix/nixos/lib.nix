# What several modules use: texts of units and transfers, which every base shares, and messages that
# name the field of the profile.
{ lib }:
let
  lines = text: lib.splitString "\n" text;
  isSetting = line: builtins.match "[A-Za-z][A-Za-z0-9]*=.*" line != null;
  setting = line:
    let parts = builtins.match "([A-Za-z0-9]+)=(.*)" line;
    in lib.nameValuePair (builtins.elemAt parts 0) (builtins.elemAt parts 1);

  # The values of a setting in a unit, each word.
  words = name: text:
    lib.concatMap
      (line: lib.filter (w: w != "") (lib.splitString " " (setting line).value))
      (lib.filter (line: isSetting line && (setting line).name == name) (lines text));
in
rec {
  shared = ../overlay;

  # A message about a field: Fleeti shows it at the field.
  at = path: message: "fleeti: ${path}: ${message}";
  refuse = isRight: path: message: { assertion = isRight; message = at path message; };

  # A unit of `systemd.units` from its text. NixOS does not read [Install], so what it says becomes
  # options.
  unit = text: {
    inherit text;
    wantedBy = words "WantedBy" text;
    requiredBy = words "RequiredBy" text;
  };

  # The sections of a file as systemd writes them. A name that appears again has a list.
  sections = text:
    let
      step = { name, out }: line:
        let
          heading = builtins.match "\\[(.*)]" line;
          pair = setting line;
        in
        if heading != null then { name = builtins.head heading; inherit out; }
        else if isSetting line then {
          inherit name;
          out = lib.recursiveUpdate out { ${name}.${pair.name} = pair.value; };
        }
        else { inherit name out; };
    in
    (lib.foldl' step { name = ""; out = { }; } (lines text)).out;

  # A value of a unit, in which `%` begins a specifier.
  line = lib.replaceStrings [ "%" ] [ "%%" ];
}
