#!/usr/bin/env bash
# Build influxd, InfluxDB 2's server without its web page, from its published Go module.
#
#   build_influxdb.sh TARGET_FILE VERSION
#
# Takes about seven minutes on two cores and 3.2 GB of build caches, which are removed at the end.
# Needs on PATH: go >= 1.25.10, cargo >= 1.83, a C compiler and pkg-config.
set -euo pipefail

target=${1:?usage: build_influxdb.sh TARGET_FILE VERSION}
version=${2:?usage: build_influxdb.sh TARGET_FILE VERSION}
module=github.com/influxdata/influxdb/v2
mkdir -p "$(dirname "$target")"
target=$(cd "$(dirname "$target")" && pwd)/$(basename "$target")

missing=()
for tool in go cargo cc pkg-config; do command -v "$tool" >/dev/null || missing+=("$tool"); done
if [ ${#missing[@]} -gt 0 ]; then
  echo "influxdb: building it needs ${missing[*]} on PATH; install them and run this again" >&2
  exit 2
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/influxdb-build.XXXXXX")
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
export GOMODCACHE=$work/modules GOCACHE=$work/objects CARGO_HOME=$work/cargo
export CGO_ENABLED=1 GOWORK=off GOFLAGS=-mod=mod
# Flux pins a Rust toolchain that rustup would download, and turns the warnings of newer compilers into errors.
if command -v rustup >/dev/null; then
  RUSTUP_TOOLCHAIN=$(cd / && rustup show active-toolchain | awk 'NR == 1 { print $1 }')
  export RUSTUP_TOOLCHAIN
fi
export RUSTFLAGS="--cap-lints warn" CARGO_PROFILE_RELEASE_LTO=off
# An own CARGO_HOME hides the user's registry settings: carry them over.
user_cargo=${HOME}/.cargo
mkdir -p "$CARGO_HOME"
for name in config.toml config; do [ ! -f "$user_cargo/$name" ] || cp "$user_cargo/$name" "$CARGO_HOME/"; done

# A module's replace lines count only in the main module, so this wrapper takes over influxdb's go.mod and go.sum.
mkdir "$work/wrapper" && cd "$work/wrapper"
echo "influxdb: getting $module $version"
source_dir=$(go mod download -json "$module@$version" | sed -n 's/^[[:space:]]*"Dir": "\(.*\)",*$/\1/p')
sed 's|^module .*|module wrapper|' "$source_dir/go.mod" > go.mod
cp "$source_dir/go.sum" go.sum && chmod u+w go.sum
go mod edit -require="$module@$version"

# influxdata's own pkg-config compiles libflux (Rust); it must be found before the system's.
echo "influxdb: building libflux (a few minutes)"
go build -o "$work/bin/pkg-config" github.com/influxdata/pkg-config
export PATH=$work/bin:$PATH
pkg-config --cflags --libs flux > "$work/flux.log" 2>&1 || { tail -50 "$work/flux.log" >&2; exit 1; }

echo "influxdb: building influxd (a few minutes)"
go build -trimpath -tags sqlite_foreign_keys,sqlite_json \
  -ldflags "-s -w -X main.version=$version -X main.commit=module" \
  -o "$work/influxd" "$module/cmd/influxd"
"$work/influxd" version
cp "$work/influxd" "$target.new" && mv "$target.new" "$target"
echo "influxdb: $target"
