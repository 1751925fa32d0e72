#!/usr/bin/env bash
# Tries a fresh clone on a bare Debian 12: nothing but Node, npm and an ordinary user. Run as root.
#
#   scripts/bare-machine.sh FOLDER [--mesa] [COMMAND]
#
# FOLDER keeps the Debian root between runs (FOLDER-mesa with --mesa, which adds Mesa's lavapipe from backports);
# COMMAND defaults to "npm install && npm test". The committed state of this repository is what is cloned.
# Needs debootstrap, apt's sources and a Node (>= 20.19) with npm on this machine, whose own npm settings are handed over.
set -euo pipefail

source_tree=$(cd "$(dirname "$0")/.." && pwd)
root=$1
shift
mesa=
if [ "${1:-}" = --mesa ]; then
  mesa=1
  root=$root-mesa
  shift
fi
command=${*:-npm install && npm test}
# Debian comes from where this machine has its own packages, unless DEBIAN_MIRROR says otherwise.
mirror=${DEBIAN_MIRROR:-$(cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null |
  sed -nE 's#^(URIs: *|deb (\[[^]]*\] )?)(https?://[^ ]+/debian)/?( .*)?$#\3#p' | head -n 1 || true)}

if [ ! -e "$root/.ready" ]; then
  debootstrap --variant=minbase bookworm "$root" "$mirror"
  npm_folder=$(dirname "$(dirname "$(readlink -f "$(command -v npm)")")")
  mkdir -p "$root/usr/local/lib/node_modules"
  cp "$(readlink -f "$(command -v node)")" "$root/usr/local/bin/node"
  cp -a "$npm_folder" "$root/usr/local/lib/node_modules/npm"
  ln -sf ../lib/node_modules/npm/bin/npm-cli.js "$root/usr/local/bin/npm"
  ln -sf ../lib/node_modules/npm/bin/npx-cli.js "$root/usr/local/bin/npx"
  chroot "$root" /usr/sbin/useradd -m -u 1234 ada
  if [ -n "$mesa" ]; then
    echo "deb $mirror bookworm-backports main" >"$root/etc/apt/sources.list.d/backports.list"
    cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
    DEBIAN_FRONTEND=noninteractive chroot "$root" /bin/sh -c \
      "apt-get -q update && apt-get -qy install --no-install-recommends -t bookworm-backports mesa-vulkan-drivers"
  fi
  touch "$root/.ready"
fi

# The network as this machine sees it: names, certificates, and npm's settings without its tokens.
cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
mkdir -p "$root/etc/ssl/certs"
cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
for host in $(printf '%s\n' "$(npm config get registry)" "$mirror" | sed -E 's#^[a-z]+://##; s#[/:].*##'); do getent hosts "$host" >>"$root/etc/hosts" || true; done

rm -rf "$root/home/ada/clone" "$root/home/ada/.cache"
git clone -q "$source_tree" "$root/home/ada/clone"
chroot "$root" chown -R ada: /home/ada

inside='mount -t proc proc "$1/proc" && mount --rbind /dev "$1/dev" &&
  exec env -i PATH=/usr/local/bin:/usr/bin:/bin HOME=/home/ada USER=ada LANG=C.UTF-8 \
    NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt \
    /usr/sbin/chroot --userspec=ada "$1" /bin/bash -c "cd ~/clone && time { $2; }"'
exec unshare --mount --pid --fork /bin/bash -c "$inside" bash "$root" "$command"
