#!/bin/bash
# Before Kibana and Logstash start: the password of Kibana's own user, and the template of the logs' index. Repeatable.
set -euo pipefail

put() { # METHOD PATH BODY...: fails with the answer when it is no success
    curl --silent --show-error --fail-with-body --user "elastic:$ELASTIC_PASSWORD" --header 'Content-Type: application/json' \
        --request "$1" "http://elasticsearch:9200/$2" "${@:3}"
    echo
}

put POST _security/user/kibana_system/_password --data "{\"password\":\"$KIBANA_PASSWORD\"}"
put PUT _index_template/fides-logs --data @/elk/template.json
