#!/bin/sh
# Starts Grafana with what depends on the environment: where the stores are, and to whom its own alerts go.
#
# Grafana refuses to start over a contact point without an address, so those are only written for channels that are given:
#   ALERT_SLACK_WEBHOOK_URL, ALERT_EMAIL_TO with ALERT_SMTP_HOST as for Alertmanager, ALERT_WEBHOOK_URL: everything
#   ALERT_PAGERDUTY_ROUTING_KEY: what is critical
# The rule on a price of the user's own is only there with PRICE_ALERT_USD, and PRICE_ALERT_SYMBOL, BTC/USDT if not given.
# Grafana keeps what its files no longer name, so what is not given is written as something to delete; what never was there is no error.
# `entry.sh --prepare` writes the folder and starts nothing.
set -eu
SOURCE=${PROVISIONING_SOURCE:-/etc/grafana/provisioning}
TARGET=${PROVISIONING_TARGET:-/tmp/provisioning} # never GF_PATHS_PROVISIONING as it comes: the image sets that to the source
export GF_PATHS_PROVISIONING="$TARGET"
export PROMETHEUS_URL="${PROMETHEUS_URL:-http://prometheus:9090}" INFLUXDB_URL="${INFLUXDB_URL:-http://influxdb:8086}"
export GRAFANA_ALLOW_UI_UPDATES="${GRAFANA_ALLOW_UI_UPDATES:-false}" DASHBOARDS_PATH="${DASHBOARDS_PATH:-/var/lib/grafana/dashboards}"
if [ -n "${ALERT_SMTP_HOST:-}" ]; then
  export GF_SMTP_ENABLED=true GF_SMTP_HOST="$ALERT_SMTP_HOST" GF_SMTP_FROM_ADDRESS="${ALERT_EMAIL_FROM:-${ALERT_EMAIL_TO:-}}"
  export GF_SMTP_USER="${ALERT_SMTP_USER:-}" GF_SMTP_PASSWORD="${ALERT_SMTP_PASSWORD:-}"
fi
# The token of InfluxDB as it is, or INFLUXDB_TOKEN_FILE, as containers get it
[ -z "${INFLUXDB_TOKEN_FILE:-}" ] || INFLUXDB_TOKEN=$(cat "$INFLUXDB_TOKEN_FILE")
export INFLUXDB_TOKEN="${INFLUXDB_TOKEN:-}" INFLUXDB_ORG="${INFLUXDB_ORG:-neko}" INFLUXDB_BUCKET="${INFLUXDB_BUCKET:-neko_signal}"
export RUNBOOK_URL="${RUNBOOK_URL:-docs/operations.md}" # what alerts link to
export PRICE_ALERT_SYMBOL="${PRICE_ALERT_SYMBOL:-BTC/USDT}"

receiver() { # type and settings of a channel; Grafana puts the values in, so no secret is written here
  cat <<YAML
      - uid: $1
        type: $1
        settings:
          $2
YAML
}

people() { # who is told of everything
  [ -z "${ALERT_SLACK_WEBHOOK_URL:-}" ] || receiver slack 'url: $ALERT_SLACK_WEBHOOK_URL'
  [ -z "${ALERT_EMAIL_TO:-}" ] || receiver email 'addresses: $ALERT_EMAIL_TO'
  [ -z "${ALERT_WEBHOOK_URL:-}" ] || receiver webhook 'url: $ALERT_WEBHOOK_URL'
}

on_call() { # who is called by what is critical
  [ -z "${ALERT_PAGERDUTY_ROUTING_KEY:-}" ] || receiver pagerduty 'integrationKey: $ALERT_PAGERDUTY_ROUTING_KEY'
}

contact_point() { # name, receivers
  [ -z "$2" ] || printf '  - orgId: 1\n    name: %s\n    receivers:\n%s\n' "$1" "$2"
}

policy() { # a first route that matches ends the search, but for `continue`; so people stand behind those on call once more
  cat <<YAML
policies:
  - orgId: 1
    receiver: $root
    group_by: [grafana_folder, alertname]
YAML
  [ -z "$(on_call)" ] || cat <<YAML
    routes:
      - receiver: on-call
        object_matchers: [[severity, "=", critical]]
        continue: true
      - receiver: $root
YAML
}

channels() {
  root=$([ -n "$(people)" ] && echo people || echo empty) # of the second, Grafana 12.4 has its own, which tells nobody
  echo "apiVersion: 1"
  if [ -n "$(people)$(on_call)" ]; then
    echo "contactPoints:"
    contact_point people "$(people)"
    contact_point on-call "$(on_call)"
    policy
  else
    echo "resetPolicies: [1]" # a contact point that a policy names cannot be deleted
  fi
  deleted=
  for channel in slack email webhook pagerduty; do
    { people; on_call; } | grep -q "uid: $channel$" || deleted="$deleted {orgId: 1, uid: $channel},"
  done
  echo "deleteContactPoints: [$deleted]"
}

filled() { # of a file of rules, in which Grafana replaces no name of the environment
  in_sed() { printf '%s' "$1" | sed 's/[\\&|]/\\&/g'; }
  sed -e "s|\$RUNBOOK_URL|$(in_sed "$RUNBOOK_URL")|" -e "s|\$PRICE_ALERT_USD|$(in_sed "${PRICE_ALERT_USD:-}")|" \
    -e "s|\$PRICE_ALERT_SYMBOL|$(in_sed "$PRICE_ALERT_SYMBOL")|" "$SOURCE/alerting/$1"
}

case ${PRICE_ALERT_USD:-0} in *[!0-9.]*)
  echo "grafana: expected PRICE_ALERT_USD to be a number, found $PRICE_ALERT_USD; example: PRICE_ALERT_USD=90000" >&2
  exit 2 ;;
esac

rm -rf "$TARGET"
mkdir -p "$TARGET"
cp -R "$SOURCE"/. "$TARGET"
channels >"$TARGET/alerting/channels.yml"
filled stores.yml >"$TARGET/alerting/stores.yml"
if [ -n "${PRICE_ALERT_USD:-}" ]; then
  filled price.yml >"$TARGET/alerting/price.yml"
else
  printf 'apiVersion: 1\ndeleteRules: [{orgId: 1, uid: price-above-own-limit}]\n' >"$TARGET/alerting/price.yml"
fi
[ "${1:-}" != --prepare ] || exit 0
exec "${GRAFANA_START:-/run.sh}" "$@"
