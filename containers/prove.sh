#!/bin/bash
# Proves the recipe where Apptainer is not: its %post and %test run in a root that debootstrap makes, and its ranks under the
# host's launcher, one container each, by Charliecloud. Needs root, and Debian's debootstrap, charliecloud and mpich.
#   containers/prove.sh [FOLDER]        default: a temporary one, removed at the end
#   BIND="/etc/pip.conf ..."    files and folders of the host that pip needs in there
set -euo pipefail
cd "$(dirname "$0")/.."
export USER=${USER:-root}
recipe=containers/msvae.def
folder=${1:-$(mktemp -d)}
root=$folder/root
mounts=()
cleanup() {
    for ((i = ${#mounts[@]} - 1; i >= 0; i--)); do umount "${mounts[i]}" || true; done
    if [ $# -eq 0 ]; then rm -rf --one-file-system "$folder"; fi
}
trap 'cleanup "$@"' EXIT
section() { awk -v name="%$1" '$1 == name {inside = 1; next} /^%/ {inside = 0} inside' "$recipe"; }
filled() { sed -e "s|{{ PIP }}|${PIP:-}|g" -e "s|{{ COMMIT }}|$(git rev-parse --short HEAD 2>/dev/null || echo unknown)|g"; }

echo "== the recipe is parsed"
if python3 -c 'import spython' 2>/dev/null; then python3 -m spython.client recipe "$recipe" >/dev/null; else echo "   (not by spython, which is not installed)"; fi
for name in files post environment test runscript help labels; do
    [ -n "$(section "$name")" ] || { echo "no %$name"; exit 1; }
done

echo "== a root of Debian"
mkdir -p "$root"
[ -x "$root/bin/bash" ] || debootstrap --variant=minbase --include=ca-certificates bookworm "$root" >"$folder/debootstrap.log"
for place in proc dev sys; do
    mount --bind "/$place" "$root/$place"
    mounts+=("$root/$place")
done
cp /etc/resolv.conf "$root/etc/resolv.conf"
for place in ${BIND:-}; do
    if [ -d "$place" ]; then mkdir -p "$root$place"; else mkdir -p "$(dirname "$root$place")" && touch "$root$place"; fi
    mount --bind "$place" "$root$place"
    mounts+=("$root$place")
done

echo "== %files"
rm -rf "$root/opt/source" "$root/opt/msvae" "$root/opt/env" "$folder/run"  # of an earlier proof in this folder
section files | while read -r from to; do
    [ -n "$from" ] || continue
    mkdir -p "$(dirname "$root$to")"
    tar -C "$(dirname "$from")" --exclude=__pycache__ -cf - "$(basename "$from")" | tar -C "$(dirname "$root$to")" -xf -
done

echo "== %post"
section post | filled >"$root/post.sh"
env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root PIP_FIND_LINKS="${PIP_FIND_LINKS:-}" PIP_CERT="${PIP_CERT:-}" \
    chroot "$root" /bin/bash /post.sh >"$folder/post.log" 2>&1 || { tail -20 "$folder/post.log"; exit 1; }
rm "$root/post.sh"
if chroot "$root" /bin/sh -c 'command -v cc gcc'; then echo "a compiler is left"; exit 1; fi
for ((i = ${#mounts[@]} - 1; i >= 0; i--)); do umount "${mounts[i]}"; done
mounts=()

echo "== %test, with a home that cannot be written to"
{ section environment; section test; } >"$root/test.sh"
ch-run --unset-env='*' --set-env=PATH=/usr/bin:/bin --set-env=HOME=/proc "$root" -- /bin/bash /test.sh >"$folder/test.log" 2>&1 ||
    { tail -20 "$folder/test.log"; exit 1; }
grep -c '^passed' "$folder/test.log" | sed 's/$/ conformance checks passed, and the demo on 3 ranks/'

echo "== the host's launcher, one container a rank"
export ENTER="ch-run --set-env=HOME=/proc --set-env=PATH=/opt/env/bin:/usr/bin:/bin --set-env=MSVAE_NO_COMPILER=1 --set-env=UCX_POSIX_USE_PROC_LINK=n --bind=$folder:/mnt $root --"
LAUNCH="${LAUNCH:-mpiexec.mpich -n 2}" containers/check-mpi.sh
cat >"$folder/study.toml" <<'STUDY'
campaign = "label"
[dataset]
name = "simulated"
count = 60
shape = [16, 16, 16]
[solver]
name = "elasticity"
phases = [{ youngs_modulus = 70e9, poissons_ratio = 0.33 }, { youngs_modulus = 0.0 }]
STUDY
# shellcheck disable=SC2086
mpiexec.mpich -n 3 $ENTER python -m mpi4py -m msvae run /mnt/study.toml --output /mnt/run --no-report </dev/null >"$folder/ranks.log" 2>&1 ||
    { tail -20 "$folder/ranks.log"; exit 1; }
# shellcheck disable=SC2086
$ENTER msvae status /mnt/run --exit-code | grep -E 'ranks|state'
echo "== proven: $(du -sm "$root" | cut -f1) MB"
