#!/bin/sh
# Refuses passwords that everybody knows, one line each; exit code 2. Values are never printed.
set -eu
SHORTEST=12 # letters
bad=0

no() {
  echo "check: $1" >&2
  bad=2
}

secret() { # name, value
  case $(printf %s "$2" | tr '[:upper:]' '[:lower:]') in
    admin | changeme | change_me | change-me | password | secret | nekopassword | your_secure_password_here | your_*_here | example* | tapestream*)
      no "$1 is the default of a document, expected one of your own; \`openssl rand -hex 16\` makes one" ;;
    *) [ ${#2} -ge $SHORTEST ] || no "$1 has ${#2} letters, expected $SHORTEST or more; \`openssl rand -hex 16\` makes one" ;;
  esac
}

secret GRAFANA_ADMIN_PASSWORD "${GRAFANA_ADMIN_PASSWORD:-}"
secret GRAFANA_SECRET_KEY "${GRAFANA_SECRET_KEY:-}"
secret INFLUXDB_PASSWORD "${INFLUXDB_PASSWORD:-}"
secret INFLUXDB_TOKEN "${INFLUXDB_TOKEN:-}"
secret METRICS_PASSWORD "${METRICS_PASSWORD:-}"
[ -z "${API_TOKEN:-}" ] || secret API_TOKEN "$API_TOKEN" # without one nobody can start or stop strategies
case ${WEBHOOK_SECRETS:-} in *changeme* | *your_* | *example*) no "WEBHOOK_SECRETS holds the default of a document, expected one of your own" ;; esac
case ${PUBLIC_HOST:-} in
  "" | localhost | *[!a-zA-Z0-9.-]*) no "PUBLIC_HOST is '${PUBLIC_HOST:-}', expected the name of this server without a scheme or port, as stream.example.org" ;;
esac
[ "$bad" != 0 ] || echo "check: passwords and PUBLIC_HOST can be used"
exit $bad
