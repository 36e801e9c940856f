#!/bin/sh
# Builds the image that agents run in:
#   sh services/executor/agent/image.sh
# From its base where that can be pulled, else from Debian packages. BASE=IMAGE takes another.
# With --is-current nothing is built; it succeeds when the image there is was built of the same.
set -eu
cd "$(dirname "$0")/.."
fail() { printf '%s\n' "$@" >&2; exit 2; }

version=$(sed -n 's/.*"@anthropic-ai\/claude-code": "\(.*\)".*/\1/p' agent/package.json)
image=moorline-agent:$version
recipe() { cat agent.Dockerfile agent/bin/* | cksum | tr ' ' -; }
if [ "${1:-}" = --is-current ]; then
  label='{{index .Config.Labels "moorline.agent.recipe"}}'
  [ "$(docker image inspect --format "$label" "$image")" = "$(recipe)" ]
  exit
fi
argument() { sed -n "s/^ARG $1=\"\{0,1\}\([^\"]*\)\"\{0,1\}\$/\1/p" agent.Dockerfile; }

command -v docker >/dev/null || fail 'There is no docker command: install Docker, and try again.'
machine=$(docker version --format '{{.Server.Arch}}' 2>&1) ||
  fail "The Docker engine does not answer: $machine"
case $machine in amd64) machine=x64 ;; esac
program=agent/node_modules/@anthropic-ai/claude-code-linux-$machine/claude
[ -f "$program" ] || fail "There is no $program: make agent-cli installs it, on Linux."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# bootstrap IMAGE: import a Debian with the packages that the Dockerfile wants.
bootstrap() {
  suite=$(. /etc/os-release && [ "$ID" = debian ] && echo "$VERSION_CODENAME" || echo bookworm)
  packages=$(argument PACKAGES | tr ' ' ',')
  if command -v mmdebstrap >/dev/null; then
    mmdebstrap --quiet --variant=essential --include="$packages" \
      --dpkgopt=path-exclude='/usr/share/doc/*' --dpkgopt=path-exclude='/usr/share/man/*' \
      --dpkgopt=path-exclude='/usr/share/locale/*' "$suite" "$work/base.tar" >&2
  elif command -v debootstrap >/dev/null && [ "$(id -u)" = 0 ]; then
    debootstrap --variant=minbase --include="$packages" "$suite" "$work/base" >&2
    (cd "$work/base" && rm -rf dev/* var/cache/apt/* var/lib/apt/lists/* \
      usr/share/doc/* usr/share/man/* usr/share/locale/*)
    tar -C "$work/base" -cf "$work/base.tar" .
  else
    fail "The base image $base cannot be pulled here, and cannot be made here either:" \
      'install mmdebstrap (or, as root, debootstrap), or name a base with BASE=IMAGE, and try again.'
  fi
  docker import "$work/base.tar" "$1" >/dev/null
  rm -rf "$work/base" "$work/base.tar"
}

base=${BASE:-$(argument BASE)}
present() { docker image inspect "$1" >/dev/null 2>&1; }
network=
if ! present "$base" && ! timeout 90 docker pull --quiet "$base" >/dev/null 2>&1; then
  own=moorline-agent-base:latest
  if present "$own"; then
    echo "$base cannot be pulled; taking $own, which is here."
  else
    echo "$base cannot be pulled; making $own from Debian packages."
    bootstrap "$own"
  fi
  base=$own
  # Nothing is left to be fetched, and some engines have no network to give.
  network=none
fi

mkdir "$work/context"
cp -R agent/bin "$work/context/bin"
cp "$program" "$work/context/bin/claude"
# To be run, and not read; see the Dockerfile.
chmod 0711 "$work/context/bin/claude"
# The builder without an add-on of its own, where that one is not installed.
docker buildx version >/dev/null 2>&1 || export DOCKER_BUILDKIT=0
before=$(docker image inspect --format '{{.Id}}' "$image" 2>/dev/null || true)
docker build --quiet ${network:+--network "$network"} --build-arg BASE="$base" \
  --build-arg CLI_VERSION="$version" --label moorline.agent.recipe="$(recipe)" --tag "$image" --file agent.Dockerfile "$work/context" \
  >"$work/built" 2>&1 || fail "$(cat "$work/built")"
# What it was before has no name any more, and is half a gigabyte; containers may still need it.
# What was built of the same is the same.
after=$(docker image inspect --format '{{.Id}}' "$image")
case $before in "" | "$after") ;; *) docker image rm "$before" >/dev/null 2>&1 || true ;; esac
docker image inspect --format "$image: {{.Size}} bytes" "$image"
