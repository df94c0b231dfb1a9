# The Debian base: builds an unsigned image from pinned .debs, without nixpkgs.
#
# `spec` is a JSON file that fleeti-build writes. Every package is a fixed-output path. The only other
# executable is the static busybox that unpacks the tools; it comes from a pinned .deb as well.
# Keys never enter a derivation: the outputs are signed outside.
{ spec }:
let
  s = builtins.fromJSON (builtins.readFile spec);
  system = "x86_64-linux";
  pinned = p: builtins.path {
    path = /. + p.path;
    name = p.name;
    sha256 = p.sha256;
    recursive = false;
  };
  debs = set: map pinned s.sets.${set};
  busybox = builtins.path { path = /. + s.busybox; name = "busybox-seed"; };
  B = "${busybox}/busybox";
  scripts = builtins.path { path = ./.; name = "fleeti-debian-scripts"; filter = p: t: baseNameOf p != "default.nix"; };

  # The tools of every later step: Debian's packages, unpacked.
  tools = derivation {
    name = "fleeti-tools";
    inherit system;
    builder = B;
    debs = debs "tools";
    passAsFile = [ "debs" ];
    args = [ "sh" "-euc" ''
      B=${B}; $B mkdir -p $out/usr/bin $out/usr/sbin $out/usr/lib $out/usr/lib64; cd $out
      for l in bin sbin lib lib64; do $B ln -s usr/$l $l; done
      for d in $($B cat $debsPath); do
        # busybox's tar reports setuid bits, which a sandbox cannot set and no tool here needs.
        $B ar -p $d data.tar.xz | $B xz -dc | $B tar -x --no-same-permissions -f - -C $out 2>>$NIX_BUILD_TOP/err || $B true
      done
      $B test -x usr/bin/python3 && $B test -x usr/bin/ukify && $B test -x usr/bin/systemd-repart
      $B mkdir -p build nix proc dev sys tmp run etc root
    '' ];
  };

  # Runs a script in a chroot of the tools, inside Nix's own sandbox.
  inTools = name: env: script: derivation (env // {
    inherit name system script;
    builder = B;
    passAsFile = [ "script" ] ++ (env.passAsFile or [ ]);
    args = [ "sh" "-euc" ''
      export B=${B}
      $B cat > $NIX_BUILD_TOP/outer.sh <<'X'
      set -eu
      R=$NIX_BUILD_TOP/.root; $B mkdir -p $R; $B mount --rbind ${tools} $R
      for d in proc dev nix; do $B mount --rbind /$d $R/$d; done
      $B mount --bind $NIX_BUILD_TOP $R/build
      $B mount -t tmpfs none $R/tmp; $B mount -t tmpfs none $R/run
      export PATH=/usr/bin:/usr/sbin:/usr/lib/systemd HOME=/build TMPDIR=/build LC_ALL=C TZ=UTC PYTHONDONTWRITEBYTECODE=1
      # Not only chroot, which a script can leave: the store that it would find outside is writable.
      cd $R; $B pivot_root . sys; cd /; $B umount -l /sys
      exec /usr/bin/bash -euo pipefail -c "cd /build; . /build/''${scriptPath##*/}"
      X
      exec $B unshare -Urm $B sh $NIX_BUILD_TOP/outer.sh
    '' ];
  });

  json = name: value: builtins.toFile name (builtins.toJSON value);
  E = { SOURCE_DATE_EPOCH = s.epoch; };

  # Packages as Debian installs them. It does not depend on the profile's files or version: a changed file does not install again.
  deviceTree = inTools "fleeti-device-tree"
    (E // { SETS = json "sets.json" (builtins.listToAttrs (map (set: { name = set; value = map (d: "${d}") (debs set); }) [ "device" "installer" "kernel" ]));
            IDS = builtins.toJSON s.ids; })
    "python3 ${scripts}/install.py \"$SETS\" $out";
  # Packages that are unpacked and not installed: the initrd takes single files from them.
  initrdTree = inTools "fleeti-initrd-tree" (E // { DEBS = json "debs.json" (map (d: "${d}") (debs "initrd" ++ debs "kernel")); })
    "python3 ${scripts}/unpack.py \"$DEBS\" $out";

  initrd = inTools "fleeti-initrd" (E // { MODULES = builtins.concatStringsSep " " s.modules; }) "python3 ${scripts}/initrd.py ${initrdTree} $out";

  # Data is never part of a script: scripts read it from a store file or a quoted variable of the builder.
  root = inTools "fleeti-root-${s.line}-${s.version}"
    (E // { OVERLAY = builtins.path { path = /. + s.overlay; name = "overlay.json"; recursive = false; };
            AGENT = builtins.path { path = /. + s.agent; name = "fleeti-agent"; recursive = false; };
            LOCALE = s.locale; ROOT_UUID = s.root_uuid; LINE = s.line; VERITY_SALT = s.verity_salt; ROOT_MIB = s.root_mib; })
    ''
      python3 ${scripts}/root.py ${deviceTree} "$OVERLAY" "$AGENT" "$out"
      # For small deltas: no inline tails, and one salt for each image line (the verity tree is the block index).
      mkfs.erofs --quiet -T"$SOURCE_DATE_EPOCH" -U "$ROOT_UUID" -L "$LINE" -Enoinline_data --tar=f "$out/root.erofs" root.tar
      size=$(stat -c %s "$out/root.erofs")
      if [ "$size" -gt $((ROOT_MIB << 20)) ]; then
        echo "error: the root file system has $((size >> 20)) MiB, and the slots of the line $ROOT_MIB MiB: leave packages out, or raise storage.root_mib before the first release of the line" >&2
        exit 1
      fi
      veritysetup format --salt="$VERITY_SALT" --uuid="$ROOT_UUID" --data-block-size=4096 --hash-block-size=4096 \
        --root-hash-file="$out/roothash" "$out/root.erofs" "$out/root.verity" >/dev/null
    '';

  uki = inTools "fleeti-uki-${s.line}-${s.version}"
    (E // { PCR = builtins.path { path = /. + s.pcr; name = "pcr.pem"; recursive = false; };
            SBAT = builtins.toFile "sbat.csv" s.sbat;
            COMMAND_LINE = builtins.toFile "cmdline" s.cmdline;
            MICROCODE = builtins.concatStringsSep " " (map (vendor: "${vendor}=${deviceTree}") s.microcode); })
    "python3 ${scripts}/uki.py ${root} ${initrd} $out";

  disk = inTools "fleeti-disk-${s.line}-${s.version}" (E // { DEFS = json "repart.json" s.partitions; }) ''
    python3 ${scripts}/disk.py "$DEFS" ${root} ${uki} $out
  '';
in { inherit tools initrd root uki disk; tree = deviceTree; }
