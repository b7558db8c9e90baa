#!/bin/sh
# Makes what depends on the environment, checks it, and starts nginx.
#
#   METRICS_USER, METRICS_PASSWORD   of /metrics and /prometheus/; without a password both are closed
#   METRICS_ALLOW                    addresses and networks that may ask these at all, as "10.0.0.0/8 192.0.2.7"; none: all, with the password
#   TLS_SELF_SIGNED                  true: makes a certificate if SSL/cert.pem is not there, for PUBLIC_HOST and localhost
#   PUBLIC_HTTPS_PORT                the port that people see, if it is not 443
#   GATEWAY, GRAFANA, PROMETHEUS, SINK   host:port of each
#
# `entry.sh --check` makes it, lets nginx test it, and starts nothing.
set -eu
SOURCE=${NGINX_SOURCE:-/etc/nginx}
TARGET=${NGINX_TARGET:-/tmp/nginx}
SSL=${NGINX_SSL:-/etc/nginx/ssl}
HTTP=${NGINX_HTTP:-80} HTTPS=${NGINX_HTTPS:-443}
MADE=$TARGET/made
umask 077

no() {
  echo "nginx: $1" >&2
  exit 2
}

certificate() { # prints the folder of cert.pem and key.pem
  if [ -r "$SSL/cert.pem" ] && [ -r "$SSL/key.pem" ]; then
    echo "$SSL"
  elif [ "${TLS_SELF_SIGNED:-false}" = true ]; then
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 365 -keyout "$MADE/key.pem" -out "$MADE/cert.pem" \
      -subj "/CN=${PUBLIC_HOST:-localhost}" -addext "subjectAltName=DNS:${PUBLIC_HOST:-localhost},DNS:localhost,IP:127.0.0.1" 2>/dev/null ||
      no "expected openssl to make a certificate, it did not; give cert.pem and key.pem in TLS_DIR"
    echo "nginx: made a certificate that nobody has signed; browsers will warn" >&2
    echo "$MADE"
  else
    no "expected cert.pem and key.pem in TLS_DIR, readable by user $(id -u), found none; put them there, or TLS_SELF_SIGNED=true to try it out"
  fi
}

private() { # who may see metrics
  for network in $(printf %s "${METRICS_ALLOW:-}" | tr ',' ' '); do
    case $network in *[!0-9a-fA-F.:/]*) no "expected METRICS_ALLOW to be addresses and networks, found $network" ;; esac
    echo "allow $network;"
  done
  [ -z "${METRICS_ALLOW:-}" ] || echo "deny all;"
  if [ -n "${METRICS_PASSWORD:-}" ]; then
    echo 'auth_basic "Tapestream";'
    echo "auth_basic_user_file $MADE/htpasswd;"
    case ${METRICS_USER:-metrics} in *:* | "") no "expected METRICS_USER without a colon, found ${METRICS_USER}" ;; esac
    printf '%s:%s\n' "${METRICS_USER:-metrics}" "$(printf '%s\n' "$METRICS_PASSWORD" | openssl passwd -6 -stdin)" >"$MADE/htpasswd"
  else
    echo "return 403;"
    echo "nginx: METRICS_PASSWORD is not given, so /metrics and /prometheus/ are closed" >&2
  fi
}

known() { # the one header that is no guess
  [ -z "${METRICS_PASSWORD:-}" ] ||
    printf '"~^Basic %s$" "";\n' "$(printf %s "${METRICS_USER:-metrics}:$METRICS_PASSWORD" | openssl base64 -A | sed 's/+/[+]/g')"
}

rm -rf "$TARGET"
mkdir -p "$MADE" "$TARGET/conf.d"
cp "$SOURCE/nginx.conf" "$TARGET/"
cp "$SOURCE"/conf.d/*.conf "$TARGET/conf.d/"
tls=$(certificate)
# Browsers that heard of it would refuse a certificate of our own for a year.
[ "$tls" = "$MADE" ] || echo 'add_header Strict-Transport-Security "max-age=31536000" always;' >"$MADE/hsts.conf"
port=${PUBLIC_HTTPS_PORT:-443}
[ "$port" = 443 ] && port= || port=:$port
printf 'listen %s;\nset $made_port "%s";\n' "$HTTP" "$port" >"$MADE/listen.conf"
printf 'listen %s ssl http2;\nssl_certificate %s/cert.pem;\nssl_certificate_key %s/key.pem;\n' "$HTTPS" "$tls" "$tls" >"$MADE/listen-tls.conf"
{
  resolver=${NGINX_RESOLVER:-$(sed -n 's/^nameserver[[:space:]]*//p' /etc/resolv.conf | head -1)}
  case $resolver in *:*:*) resolver="[$resolver]" ;; esac
  [ -z "$resolver" ] || echo "resolver $resolver valid=10s ipv6=off;"
  echo "set \$gateway ${GATEWAY:-gateway:8080};"
  echo "set \$grafana ${GRAFANA:-grafana:3000};"
  echo "set \$prometheus ${PROMETHEUS:-prometheus:9090};"
  echo "set \$sink ${SINK:-sink-prometheus:8000};"
} >"$MADE/upstreams.conf"
private >"$MADE/private.conf"
known >"$MADE/known.conf"
cd "$TARGET"
if [ "${1:-}" = --check ]; then exec nginx -t -q -e stderr -p "$TARGET" -c "$TARGET/nginx.conf"; fi
exec nginx -e stderr -p "$TARGET" -c "$TARGET/nginx.conf" -g "daemon off; ${NGINX_DIRECTIVES:-}"
