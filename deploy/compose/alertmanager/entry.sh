#!/bin/sh
# Alertmanager reads no environment, so this writes its configuration out of it and starts it with that.
#
#   ALERT_SLACK_WEBHOOK_URL, ALERT_SLACK_CHANNEL      ALERT_PAGERDUTY_ROUTING_KEY (critical alerts only)
#   ALERT_EMAIL_TO, ALERT_EMAIL_FROM, ALERT_SMTP_HOST (host:port), ALERT_SMTP_USER, ALERT_SMTP_PASSWORD,
#   ALERT_SMTP_TLS (true; false for a mail server of your own that has none)
#   ALERT_WEBHOOK_URL
#
# What is not given is not there: without any of them alerts are shown at its page and sent to nobody.
# `entry.sh --print` writes the configuration to stdout and starts nothing.
set -eu
FILE=${ALERTMANAGER_CONFIG:-/tmp/alertmanager.yml}
PROGRAM=${ALERTMANAGER_PROGRAM:-/bin/alertmanager} DATA=${ALERTMANAGER_DATA:-/alertmanager}

quoted() { printf "'%s'" "$(printf '%s' "$1" | sed "s/'/''/g")"; } # as YAML writes any text

slack() {
  [ -n "${ALERT_SLACK_WEBHOOK_URL:-}" ] || return 0
  echo "    slack_configs:"
  echo "      - api_url: $(quoted "$ALERT_SLACK_WEBHOOK_URL")"
  [ -z "${ALERT_SLACK_CHANNEL:-}" ] || echo "        channel: $(quoted "$ALERT_SLACK_CHANNEL")"
  cat <<'TEXT'
        send_resolved: true
        title: '{{ .Status }}: {{ .CommonLabels.alertname }}'
        text: '{{ range .Alerts }}{{ .Annotations.summary }}. {{ .Annotations.description }} {{ .Annotations.runbook_url }} {{ end }}'
TEXT
}

email() {
  [ -n "${ALERT_EMAIL_TO:-}" ] || return 0
  if [ -z "${ALERT_SMTP_HOST:-}" ]; then
    echo "alertmanager: ALERT_EMAIL_TO needs ALERT_SMTP_HOST, found none; example: ALERT_SMTP_HOST=mail:587" >&2
    exit 2
  fi
  echo "    email_configs:"
  echo "      - to: $(quoted "$ALERT_EMAIL_TO")"
  echo "        from: $(quoted "${ALERT_EMAIL_FROM:-$ALERT_EMAIL_TO}")"
  echo "        smarthost: $(quoted "$ALERT_SMTP_HOST")"
  echo "        require_tls: ${ALERT_SMTP_TLS:-true}"
  echo "        send_resolved: true"
  [ -z "${ALERT_SMTP_USER:-}" ] || echo "        auth_username: $(quoted "$ALERT_SMTP_USER")"
  [ -z "${ALERT_SMTP_PASSWORD:-}" ] || echo "        auth_password: $(quoted "$ALERT_SMTP_PASSWORD")"
}

webhook() {
  [ -n "${ALERT_WEBHOOK_URL:-}" ] || return 0
  echo "    webhook_configs:"
  echo "      - url: $(quoted "$ALERT_WEBHOOK_URL")"
  echo "        send_resolved: true"
}

configuration() {
  people=$(slack && email && webhook) || exit 2
  echo "route:"
  echo "  receiver: $([ -n "$people" ] && echo people || echo nobody)"
  echo "  group_by: [alertname, exchange, portfolio]" # one market or account a message
  echo "  group_wait: 10s"
  echo "  group_interval: 1m"
  echo "  repeat_interval: 4h"
  if [ -n "${ALERT_PAGERDUTY_ROUTING_KEY:-}" ]; then
    echo "  routes:"
    echo "    - matchers: ['severity=\"critical\"']"
    echo "      receiver: on-call"
    echo "      continue: true"
    echo "    - receiver: $([ -n "$people" ] && echo people || echo nobody)"
  fi
  # The stronger of two alerts about one thing mutes the weaker.
  cat <<'RULES'
inhibit_rules:
  - {source_matchers: [alertname="RateLimitCritical"], target_matchers: [alertname="RateLimitWarning"], equal: [exchange, endpoint]}
  - {source_matchers: [alertname="HighExposure"], target_matchers: [alertname="HighExposureApproaching"], equal: [portfolio]}
  - {source_matchers: [alertname="PortfolioDrawdown"], target_matchers: [alertname="MaxDrawdownWarning"], equal: [portfolio]}
  - {source_matchers: [alertname="LowBotWinRate"], target_matchers: [alertname="LowWinRate"], equal: [source, strategy]}
receivers:
  - name: nobody
RULES
  [ -z "$people" ] || printf '  - name: people\n%s\n' "$people"
  if [ -n "${ALERT_PAGERDUTY_ROUTING_KEY:-}" ]; then
    echo "  - name: on-call"
    echo "    pagerduty_configs:"
    echo "      - routing_key: $(quoted "$ALERT_PAGERDUTY_ROUTING_KEY")"
    echo "        severity: critical"
  fi
}

if [ "${1:-}" = --print ]; then
  configuration
  exit 0
fi
umask 077 # it holds secrets
configuration >"$FILE"
exec "$PROGRAM" --config.file="$FILE" --storage.path="$DATA" "$@"
