#!/usr/bin/env bash
# Lays out the quickstart's host: load.sh FILE. Needs the sqlite3 shell and awk.
set -euo pipefail

[[ $# -eq 1 ]] || { echo "usage: $0 FILE" >&2; exit 64; }
[[ ! -e $1 ]] || { echo "$1 exists already: remove it, or name another file" >&2; exit 1; }
command -v sqlite3 >/dev/null || { echo "the sqlite3 shell is missing (Debian: apt-get install sqlite3)" >&2; exit 1; }
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

{
    cat "$here/schema.sql"
    echo 'BEGIN;'
    for table in country timezone city city_name; do
        awk -F '\t' -v table="$table" '
            function literal(field) {
                if (field == "\\N") return "NULL"
                gsub(/\\\\/, "\001", field)
                gsub(/\\t/, "\t", field); gsub(/\\n/, "\n", field); gsub(/\\r/, "\r", field)
                gsub(/\001/, "\\", field)
                gsub(/\047/, "\047\047", field)
                return "\047" field "\047"
            }
            NR > 1 {
                line = literal($1)
                for (i = 2; i <= NF; i++) line = line "," literal($i)
                print "INSERT INTO " table " VALUES (" line ");"
            }' "$here/$table.tsv"
    done
    echo 'COMMIT;'
} | sqlite3 -bail "$1"
