#!/bin/bash
# Dashboards and alert rules into Kibana. Repeatable: what is there under the same name is replaced.
set -euo pipefail

kibana() { # METHOD PATH ARGUMENT...: fails with the answer when it is no success
    curl --silent --show-error --fail-with-body --user "elastic:$ELASTIC_PASSWORD" --header 'kbn-xsrf: fides' \
        --request "$1" "http://kibana:5601/$2" "${@:3}"
    echo
}

kibana POST 'api/saved_objects/_import?overwrite=true' --form file=@/elk/dashboards.ndjson
for rule in /elk/alerts/*.json; do
    id=fides-$(basename "$rule" .json)
    # A rule cannot be created twice; one that is there is made anew, so that the file is the truth.
    kibana DELETE "api/alerting/rule/$id" >/dev/null 2>&1 || true
    kibana POST "api/alerting/rule/$id" --header 'Content-Type: application/json' --data "@$rule"
done
