#!/usr/bin/env bash
# Build docker/Dockerfile for real, run the image as hardened as docker/Dockerfile says, and prove what it promises.
#
#     docker/check.sh CLIP        CLIP: a video of a few seconds, uploaded to the container
#
# With Docker where an engine answers and has the base image. Else, as root on Debian, with buildah and podman on
# a stand-in for the base image, made of Debian's own packages: neither registry nor engine is needed.
# Environment: PORT (a free one otherwise), CHECK_OPTIONAL=1 (skip, not fail, where neither works).
set -euo pipefail

clip=${1:-}
[ -s "$clip" ] || { echo "'$clip' is not a video file; usage: docker/check.sh CLIP"; exit 2; }
clip=$(realpath "$clip")
cd "$(dirname "$0")/.."
base=$(sed -nE 's/^FROM (\S+) AS base$/\1/p' docker/Dockerfile)
uid=10001 memory_mib=512 tmp_mib=64 pids=256 stop_seconds=35
# The service encodes on every core: without this limit its memory would follow the host's cores.
cpus=$(($(nproc) < 2 ? 1 : 2))
image=localhost/reelserve-check:$$ container=reelserve-check-$$
passed=0 failed=0 engine=none
work=$(mktemp -d)

cleanup() {
  case $engine in
    docker) docker rm -f "$container" && docker rmi "$image" ;;
    # Its store is in $work: nothing else is in it.
    podman) podman rm -f -t 2 "$container"; podman rmi -af; umount "$work/graph/overlay" ;;
  esac >/dev/null 2>&1 || :
  rm -rf --one-file-system "$work"
}
trap cleanup EXIT

cannot() {
  echo "container check cannot run here: $*"
  if [ -n "${CHECK_OPTIONAL:-}" ]; then echo "0 passed, 0 failed, 1 skipped"; exit 0; fi
  echo "0 passed, 1 failed"; exit 1
}

ok() { # ok NAME COMMAND…
  local name=$1; shift
  if "$@"; then passed=$((passed + 1)); echo "ok   $name"; else failed=$((failed + 1)); echo "FAIL $name"; fi
}

# --- buildah and podman on a stand-in base image ---

install_tools() {
  local tool missing=""
  for tool in buildah podman runc conmon mmdebstrap; do command -v $tool >/dev/null || missing+=" $tool"; done
  [ -n "$missing" ] || return 0
  { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends \
      buildah podman runc conmon mmdebstrap netavark iptables golang-github-containers-common
  } >"$work/apt.log" 2>&1 || cannot "missing$missing, and apt-get does not install them"
}

own_store() {
  export CONTAINERS_STORAGE_CONF=$work/storage.conf CONTAINERS_CONF=$work/containers.conf
  # runc: crun refuses a hybrid cgroup tree. Limits: podman's defaults need CAP_SYS_RESOURCE.
  cat >"$CONTAINERS_CONF" <<CONF
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
log_driver = "k8s-file"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
CONF
  local driver
  for driver in overlay vfs; do # overlay does not work on every file system
    printf '[storage]\ndriver="%s"\ngraphroot="%s/graph"\nrunroot="%s/run"\n' $driver "$work" "$work" \
      >"$CONTAINERS_STORAGE_CONF"
    podman info >/dev/null 2>&1 && return
    rm -rf "$work/graph" "$work/run"
  done
  cannot "podman has no storage driver that works"
}

# Debian with its Python; a venv over /usr/local puts `python` and `pip` where the official image has them.
stand_in() {
  local cache=${XDG_CACHE_HOME:-$HOME/.cache}/standin-base
  if [ ! -s "$cache/base.tar" ]; then
    mkdir -p "$cache"
    mmdebstrap -q --variant=minbase --include=ca-certificates,netbase,tzdata,python3,python3-venv \
      --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
      --dpkgopt='path-exclude=/usr/share/locale/*' --customize-hook='chroot "$1" python3 -m venv /usr/local' \
      bookworm "$cache/base.$$.tar" 2>"$work/mmdebstrap.log" || { rm -f "$cache/base.$$.tar"; cannot "no base image"; }
    mv "$cache/base.$$.tar" "$cache/base.tar"
  fi
  podman import -q --change 'ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin' \
    --change 'ENV LANG=C.UTF-8' "$cache/base.tar" localhost/standin:py311 >/dev/null
}

build_with_buildah() {
  # The host's certificate and wheel folder for pip, for RUN steps only: the Dockerfile stays as it is.
  local mounts=() certificate=${PIP_CERT:-${SSL_CERT_FILE:-}}
  printf '[global]\n' >"$work/pip.conf"
  if [ -f "$certificate" ]; then
    echo "cert = /run/build-ca.crt" >>"$work/pip.conf"; mounts+=(--volume "$certificate:/run/build-ca.crt:ro")
  fi
  if [ -d "${PIP_FIND_LINKS:-}" ]; then
    echo "find-links = /run/wheels" >>"$work/pip.conf"; mounts+=(--volume "$PIP_FIND_LINKS:/run/wheels:ro")
  fi
  buildah build --format docker --isolation chroot --network host --pull-never \
    --build-context "$base=container-image://localhost/standin:py311" \
    "${mounts[@]}" --volume "$work/pip.conf:/etc/pip.conf:ro" -f docker/Dockerfile -t "$image" .
}

# --- what is checked ---

run() { # run [FLAG…] IMAGE [COMMAND…]: as hardened as can be
  $engine run --pull never --read-only --tmpfs "/tmp:size=${tmp_mib}m" --cap-drop ALL \
    --security-opt no-new-privileges --memory ${memory_mib}m --cpus "$cpus" --pids-limit $pids "$@"
}
failed_build() { tail -30 "$work/build.log"; echo "0 passed, 1 failed"; exit 1; }
inspect() { $engine inspect "$container" --format "$1"; }
in_container() { $engine exec -i "$container" "$@"; }
answers() { curl -fsS -m 2 -o /dev/null "$url$1" 2>/dev/null; }
is() { [ "$1" = "$2" ] || { echo "     is '$1', not '$2'"; return 1; }; }
fails() { ! "$@" >/dev/null 2>&1; }

owned_by_root() { # and written by root only; a read-only root file system alone would hide it
  local loose
  loose=$(in_container find /app /opt/venv ! -type l \( ! -uid 0 -o -perm /022 \)) && is "$loose" ""
}
absent() { in_container sh -c 'for path; do [ ! -e "$path" ] || { echo "     $path"; exit 1; }; done' sh "$@"; }
spool_is_empty() { local left; left=$(in_container ls -A /tmp/reelserve-spool) && is "$left" ""; }

ready() {
  local _
  for _ in $(seq 300); do answers /readyz && return; sleep 0.2; done
  $engine logs "$container" 2>&1 | tail -20; return 1
}

# What the kernel says inside, one `name value` a line.
facts() {
  in_container python - <<'PYTHON'
from pathlib import Path

status = dict(line.split(":\t", 1) for line in Path("/proc/1/status").read_text().splitlines() if ":\t" in line)
print("uid", status["Uid"].split()[0])
for name in ("CapEff", "CapBnd", "NoNewPrivs", "Seccomp"):
    print(name, status[name])
mounts = {m.split()[4]: m.split()[5] for m in Path("/proc/self/mountinfo").read_text().splitlines()}
print("root", mounts["/"].split(",")[0])

cgroup = Path("/sys/fs/cgroup")
v1 = (cgroup / "memory").is_dir()
names = (
    {"limit": "memory.limit_in_bytes", "peak": "memory.max_usage_in_bytes", "events": "memory.oom_control"}
    if v1
    else {"limit": "memory.max", "peak": "memory.peak", "events": "memory.events"}
)
folder = cgroup / "memory" if v1 else cgroup
mib = 2**20
for name in ("limit", "peak"):
    file = folder / names[name]  # memory.peak is younger than cgroup v2
    print(name, int(file.read_text()) // mib if file.exists() else "unknown")
print("oom_kills", dict(line.split() for line in (folder / names["events"]).read_text().splitlines())["oom_kill"])
stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
print("anonymous", int(stat["total_rss" if v1 else "anon"]) // mib)
print("pids_limit", (cgroup / "pids" / "pids.max" if v1 else cgroup / "pids.max").read_text().strip())
PYTHON
}
fact() { awk -v name="$1" '$1 == name { print $2 }' "$work/facts"; }

upload() { # upload ANSWER_FILE [CURL_OPTION…]; prints the status
  local answer=$1; shift
  curl -sS -m 60 -F "video=@$clip" -o "$answer" -w '%{http_code}' "$@" "$url/v1/predict"
}

is_prediction() {
  python3 - "$1" "$(sha256sum "$clip" | cut -d ' ' -f 1)" <<'PYTHON'
import json, sys

answer = json.load(open(sys.argv[1], encoding="utf-8"))
best, receipt = answer["predictions"][0], answer["receipt"]
assert best["label"] and 0 < best["score"] <= 1, best
assert receipt["sha256"] == sys.argv[2], receipt
assert 0 < receipt["frames_used"] <= receipt["frames_walked"], receipt
print(f"     {best['label']} {best['score']:.2f}, {receipt['frames_used']} of {receipt['frames_walked']} frames, "
      f"{answer['timing_ms']['total']:.0f} ms")
PYTHON
}

uploads_at_once() { # as many as $1, all of them 200
  local i jobs=()
  for i in $(seq "$1"); do upload "$work/many.$i" >"$work/status.$i" & jobs+=($!); done
  wait "${jobs[@]}"
  is "$(cat "$work"/status.* | fold -w 3 | sort -u)" 200
}

a_job() { # of one uploaded clip; jobs are what takes memory for a database
  local answer
  answer=$(curl -sS -m 60 -F "video=@$clip" "$url/v1/jobs") || return 1
  SECONDS=0
  while [ $SECONDS -lt 60 ]; do
    curl -sS -m 10 "$url/v1/jobs" | grep -q '"counts":{"ok":1}' && return 0
    sleep 0.5
  done
  echo "     $answer"
  return 1
}

models_loaded() { curl -fsS -m 10 "$url/metrics" | awk '$1 == "reelserve_models_loaded" { print int($2) }'; }
limit_met() { # by the service, in MiB: the cgroup's
  curl -fsS -m 10 "$url/metrics" | awk '$1 == "reelserve_memory_limit_bytes" { print int($2 / 1048576) }'
}
unknown_model_ends_the_start() { # before the server: with the names that there are
  local said
  said=$(run --rm --network none -e REELSERVE_MODELS=nobody "$image" 2>&1) && { echo "     it starts"; return 1; }
  grep -q "there are: .*$(cat models/zoo/default)" <<<"$said" || { echo "     $said"; return 1; }
}

health_command() { # the image's own HEALTHCHECK, as the engine would run it; options of exec first
  local test command=()
  test=$($engine image inspect "$image" --format '{{if .Config.Healthcheck}}{{json .Config.Healthcheck.Test}}{{end}}')
  mapfile -t command < <(python3 -c 'import json, sys; t = json.loads(sys.argv[1]); print("\n".join(t[1:]))' "$test")
  $engine exec "$@" "$container" "${command[@]}"
}

stops() { # SIGTERM while an upload is under way, slowly: it is answered, then the container ends by itself
  local slow rate=$(($(stat -c %s "$clip") / 3))
  upload "$work/slow.json" --limit-rate "$rate" >"$work/slow" & slow=$!
  sleep 1
  SECONDS=0
  $engine stop -t $stop_seconds "$container" >/dev/null 2>&1
  stopped_seconds=$SECONDS
  wait $slow && is "$(cat "$work/slow")" 200 && is_prediction "$work/slow.json"
}

# SIGKILL to all but process 1, as the kernel does when memory is short.
worker_dies() {
  in_container python -c 'import os, signal
me = {os.getpid(), os.getppid(), 1}
for pid in {int(name) for name in os.listdir("/proc") if name.isdigit()} - me: os.kill(pid, signal.SIGKILL)'
}
ended() {
  SECONDS=0
  while [ $SECONDS -lt 20 ]; do
    [ "$(inspect '{{.State.Running}}')" = true ] || { echo "     after ${SECONDS}s"; return 0; }
    sleep 0.2
  done
  echo "     still runs after 20s"; return 1
}

# --- build ---

if docker info >/dev/null 2>&1 && { docker image inspect "$base" || docker pull -q "$base"; } >/dev/null 2>&1; then
  engine=docker
  SECONDS=0
  docker build -f docker/Dockerfile -t "$image" . >"$work/build.log" 2>&1 || failed_build
else
  [ "$(id -u)" = 0 ] || cannot "no Docker engine with $base, and podman's way needs root"
  command -v apt-get >/dev/null || cannot "no Docker engine with $base, and podman's way needs Debian"
  install_tools
  engine=podman
  own_store
  stand_in
  run --rm --network host localhost/standin:py311 true 2>"$work/run.log" \
    || cannot "podman run: $(tail -1 "$work/run.log")"
  SECONDS=0
  build_with_buildah >"$work/build.log" 2>&1 || failed_build
fi
echo "built with $engine in ${SECONDS}s, $(($($engine image inspect "$image" --format '{{.Size}}') / 1048576)) MiB"

# --- run ---

port=${PORT:-$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')}
url=http://127.0.0.1:$port
# podman: on the host's network, so that no bridge is needed.
case $engine in docker) network=(-p "127.0.0.1:$port:$port") ;; podman) network=(--network host --no-healthcheck) ;; esac
SECONDS=0
ok "starts" run -d --name "$container" "${network[@]}" -e PORT="$port" "$image" >"$work/run.log"
ok "ready on PORT" ready
echo "     after ${SECONDS}s"

facts >"$work/facts"
ok "runs as uid $uid" is "$(fact uid)" $uid
ok "has no capability" is "$(fact CapEff)$(fact CapBnd)" 00000000000000000000000000000000
ok "gains no privilege" is "$(fact NoNewPrivs)" 1
ok "is filtered by seccomp" is "$(fact Seccomp)" 2
ok "root file system is read-only" is "$(fact root)" ro
ok "memory is limited to $memory_mib MiB" is "$(fact limit)" $memory_mib
ok "processes are limited to $pids" is "$(fact pids_limit)" $pids
ok "application and packages are root's" owned_by_root
ok "the default model alone is loaded" is "$(models_loaded)" 1
ok "models are held against the container's memory" is "$(limit_met)" $memory_mib
ok "a model that is not there ends the start" unknown_model_ends_the_start
ok "HEALTHCHECK passes" health_command
ok "HEALTHCHECK fails where nothing listens" fails health_command -e PORT=1
ok "no torch, no installer, no compiler, no leftovers" absent /opt/venv/lib/python3.11/site-packages/torch \
  /opt/venv/bin/pip /usr/bin/gcc /root/.cache /app/requirements /app/tests /app/models/fit.py
ok "stops on SIGTERM by the image's word" is \
  "$($engine image inspect "$image" --format '{{.Config.StopSignal}}')" SIGTERM

echo "     memory after start: anonymous $(fact anonymous) MiB, peak with file cache $(fact peak) MiB"
status=$(upload "$work/answer.json") || :
ok "an upload is answered with 200" is "$status" 200
ok "the answer has predictions and the clip's receipt" is_prediction "$work/answer.json"
ok "16 uploads at once are answered" uploads_at_once 16
ok "nothing is left of the uploads" spool_is_empty
ok "a job is done" a_job
facts >"$work/facts"
echo "     memory after uploads: anonymous $(fact anonymous) MiB, peak with file cache $(fact peak) MiB"
ok "nothing was killed for memory" is "$(fact oom_kills)" 0

ok "SIGTERM lets a request in flight be answered" stops
ok "and ends the container by itself, after ${stopped_seconds}s" is "$(inspect '{{.State.ExitCode}}')" 0
ok "no traceback in the log" fails grep -q Traceback <($engine logs "$container" 2>&1)

$engine start "$container" >/dev/null
ok "starts again" ready
worker_dies
ok "a worker that dies ends the container" ended
ok "with a failing exit code, as restart policies want" fails is "$(inspect '{{.State.ExitCode}}')" 0

echo "$passed passed, $failed failed"
[ $failed = 0 ]
