#!/usr/bin/env bash
# Makes a CA and a server certificate for NATS, where there is no better authority:
#
#   deploy/nats/make-certificates.sh FOLDER NAME...
#
# NAMEs are host names or addresses that clients use. Writes ca.pem, server.pem and server.key to
# FOLDER, and ca.key, which belongs somewhere safe. What is there stays.
set -euo pipefail

[ $# -ge 2 ] || {
  sed -n '2,7s/^# \{0,1\}//p' "$0" >&2
  exit 2
}
folder=$1
shift
mkdir -p "$folder"
umask 077
alternatives=
for name in "$@"; do
  kind=DNS
  [[ $name =~ ^[0-9.]+$|: ]] && kind=IP
  alternatives+="${alternatives:+,}$kind:$name"
done
if [ ! -e "$folder/ca.pem" ]; then
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 \
    -subj "/CN=market-ingestor NATS CA" -addext "basicConstraints=critical,CA:TRUE" \
    -addext "keyUsage=critical,keyCertSign,cRLSign" \
    -keyout "$folder/ca.key" -out "$folder/ca.pem" 2>/dev/null
fi
if [ ! -e "$folder/server.pem" ]; then
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=$1" \
    -keyout "$folder/server.key" -out "$folder/server.csr" 2>/dev/null
  # Client use as well: nodes of a cluster are each other's clients.
  openssl x509 -req -in "$folder/server.csr" -CA "$folder/ca.pem" -CAkey "$folder/ca.key" \
    -CAcreateserial -days 825 -out "$folder/server.pem" -extfile <(
      echo "subjectAltName=$alternatives"
      echo "extendedKeyUsage=serverAuth,clientAuth"
    ) 2>/dev/null
  rm -f "$folder/server.csr" "$folder/ca.srl"
fi
chmod 644 "$folder/ca.pem" "$folder/server.pem"
