#!/bin/sh
# Writes .env for docker compose: random passwords, free choices with their defaults. See --help.
set -eu

cd "$(dirname "$0")"

usage() {
    cat <<'HELP'
usage: ./setup.sh [--force] [--profiles LIST]

Writes the file .env beside docker-compose.yml: random passwords, ports, image versions, profiles.
Then `docker compose up -d --wait` starts everything. A .env that exists is kept, unless --force is
given or a person at the terminal agrees; the old one is kept as .env.before.

  --force           replace a .env that exists. The stores in the volumes keep the passwords they were made
                    with: replace both (`docker compose down --volumes`), or see docs/operations.md
  --profiles LIST   what runs beside the services: nothing by default, or elk, cosmos, or elk,cosmos
  --help            this text

Exit status: 0 .env is written and nothing is missing; 1 .env exists and was kept; 2 .env is written, but
something on this machine is missing (it says what, and how to get it); 64 called wrongly.
HELP
}

say() { printf '%s\n' "$*" >&2; }

force='' profiles=''
while [ $# -gt 0 ]; do
    case $1 in
        --force) force=yes ;;
        --profiles)
            [ $# -ge 2 ] || { usage >&2; exit 64; }
            shift
            profiles=$1
            ;;
        --help | -h) usage; exit 0 ;;
        *) say "unknown argument: $1"; usage >&2; exit 64 ;;
    esac
    shift
done
collector=''
for profile in $(printf '%s' "$profiles" | tr ',' ' '); do
    case $profile in
        cosmos) ;;
        elk) collector=http://collector:4318 ;;
        *) say "unknown profile: $profile (there are: elk, cosmos)"; exit 64 ;;
    esac
done

# May .env be written? Asked only where somebody can answer.
may_write() {
    [ -e .env ] || return 0
    [ -z "$force" ] || return 0
    [ -t 0 ] && [ -t 2 ] || return 1
    printf '.env exists. Replace it? Volumes keep the passwords they were made with. [y/N] ' >&2
    read -r answer || return 1
    case $answer in y | Y | yes) return 0 ;; *) return 1 ;; esac
}

# 32 hex digits: 128 bits that need no quoting in a url, in YAML or in SQL.
password() {
    digits=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
    # A short read must not become a short password.
    [ ${#digits} -eq 32 ] || { say "/dev/urandom gave too little"; exit 1; }
    printf '%s' "$digits"
}

environment() {
    cat <<ENV
# Written by setup.sh. Holds secrets: keep it to yourself, and out of version control (.gitignore names it).
COMPOSE_PROJECT_NAME=fides
# What runs beside the services: nothing, or elk (Elasticsearch, Logstash, Filebeat, Kibana, a collector; wants 4 GB more), cosmos (an
# emulator of Cosmos DB, and a copy of the cities in it), or elk,cosmos.
COMPOSE_PROFILES=$profiles

# Versions. Everything is pinned: an upgrade is a change of this file (docs/operations.md).
FIDES_IMAGE=fides:local
FIDES_COSMOS_IMAGE=fides-cosmos:local
POSTGRES_IMAGE=postgres:17.6-bookworm
REDIS_IMAGE=redis:8.0.4-bookworm
RABBITMQ_IMAGE=rabbitmq:4.0.9-management
ELASTIC_VERSION=8.17.4
COLLECTOR_VERSION=0.123.0

# Ports on this machine, on 127.0.0.1 only.
HOST_PORT=5433
TARGET_PORT=5434
RABBITMQ_MANAGEMENT_PORT=15672
IMPORTER_PORT=8081
CLEANUP_SCHEDULER_PORT=8082
EVENT_HANDLER_PORT=8083
DASHBOARD_PORT=8090
KIBANA_PORT=5601

# When the quickstart's cities are imported, and when the target is searched for what the host no longer has:
# second minute hour day month weekday.
CITIES_SCHEDULE='0 * * * * *'
CITIES_CLEANUP='0 0 3 * * *'
LOG_LEVEL=info

# A collector of OpenTelemetry, for traces and metrics: nowhere when empty; http://collector:4318 is that of the profile elk.
OTEL_EXPORTER_OTLP_ENDPOINT=$collector

# Where Docker keeps the containers' logs, for the profile elk.
DOCKER_CONTAINERS=/var/lib/docker/containers

# Passwords.
HOST_ADMIN_PASSWORD=$(password)
HOST_READER_PASSWORD=$(password)
TARGET_ADMIN_PASSWORD=$(password)
TARGET_WRITER_PASSWORD=$(password)
AMQP_PASSWORD=$(password)
REDIS_PASSWORD=$(password)
ELASTIC_PASSWORD=$(password)
KIBANA_PASSWORD=$(password)
# Of the emulator's account, for the profile cosmos.
COSMOS_KEY=$(password)
# For the status page.
DASHBOARD_TOKEN=$(password)
KIBANA_ENCRYPTION_KEY=$(password)
ENV
}

if ! may_write; then
    say ".env exists and was kept. ./setup.sh --force replaces it"
    exit 1
fi
if [ -e .env ]; then
    cp -p .env .env.before
    say "the .env that was there is .env.before now"
fi
# Complete or not at all, and never readable by others.
(
    umask 077
    environment >.env.new
)
mv .env.new .env
say ".env is written"

missing=''
lacks() { missing=yes; say "missing: $1"; say "    $2"; }

if ! command -v docker >/dev/null 2>&1; then
    lacks "docker" "https://docs.docker.com/engine/install/ (Debian, Ubuntu: apt-get install docker.io)"
else
    # `docker info` fails without a server; `docker version` alone would not tell which half is missing.
    docker info >/dev/null 2>&1 ||
        lacks "a docker engine that answers" \
            "start it (systemctl start docker), let this user in (usermod -aG docker \$USER), or set DOCKER_HOST"
    compose=$(docker compose version --short 2>/dev/null || true)
    case ${compose#v} in
        '') lacks "docker compose 2.24 or newer" "https://docs.docker.com/compose/install/linux/ (package docker-compose-plugin)" ;;
        [01].* | 2.[0-9] | 2.[0-9].* | 2.1[0-9]* | 2.2[0-3]*) lacks "docker compose 2.24 or newer; this is $compose" "https://docs.docker.com/compose/install/linux/" ;;
    esac
fi
[ -z "$missing" ] || exit 2
say "next: docker compose up -d --wait"
