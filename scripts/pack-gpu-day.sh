#!/bin/bash
# One archive with all that `webrlhf gpu-day` needs on a Linux x64 machine without a network: this Node, Dawn, the built
# library with its dependencies, and a Vulkan loader where this machine has one.
#
#   scripts/pack-gpu-day.sh OUT.tar.xz
#
# There: tar -xf OUT.tar.xz && webrlhf-gpu-day/run [options of gpu-day]
set -euo pipefail
out=${1:?usage: scripts/pack-gpu-day.sh OUT.tar.xz}
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
day=$work/webrlhf-gpu-day
mkdir -p "$day/lib" "$day/app/node_modules"
cd "$root"
npm run -s build
cp package.json "$day/app/"
cp -r dist "$day/app/"
rm -rf "$day/app/dist/.tsbuildinfo"
find "$day/app/dist" -name '*.d.ts' -delete
# Production dependencies, with Dawn for this system only.
npm ls --omit=dev --all --parseable 2>/dev/null | tail -n +2 | while read -r folder; do
  case $folder in *chromium* | */typescript) continue ;; esac
  target=$day/app/${folder#"$root"/}
  mkdir -p "$(dirname "$target")"
  [ -e "$target" ] || cp -r "$folder" "$target"
done
find "$day/app/node_modules/webgpu/dist" -mindepth 1 -maxdepth 1 ! -name linux-x64 -exec rm -rf {} +
find "$day/app/node_modules" \( -name '*.md' -o -name '*.map' -o -name '*.d.ts' -o -name '*.d.mts' -o -name '*.d.cts' \) -delete
cp "$(command -v node)" "$day/node"
loader=$(ldconfig -p | awk '/libvulkan\.so\.1 .*x86-64/ { print $NF; exit }')
[ -z "$loader" ] || cp -L "$loader" "$day/lib/libvulkan.so.1"
cat >"$day/run" <<'RUN'
#!/bin/bash
# The system's own Vulkan loader comes first; ours stands in where there is none.
here=$(cd "$(dirname "$0")" && pwd)
ldconfig -p 2>/dev/null | grep -q 'libvulkan\.so\.1' || export LD_LIBRARY_PATH=$here/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
exec "$here/node" "$here/app/dist/cli/main.js" gpu-day "$@"
RUN
chmod +x "$day/run"
tar -C "$work" -c webrlhf-gpu-day | xz -T0 -6 >"$out"
echo "$out: $(du -m "$out" | cut -f1) MiB"
