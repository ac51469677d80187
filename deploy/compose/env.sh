#!/bin/sh
# Writes random secrets for the compose stack into the given file, once; readable by its owner only.
set -eu
file=$1
[ ! -e "$file" ] || exit 0
umask 077
random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
# A letter first: NATS would read a token of digits as a number.
printf 'POSTGRES_PASSWORD=p%s\nNATS_TOKEN=n%s\n' "$(random)" "$(random)" >"$file"
