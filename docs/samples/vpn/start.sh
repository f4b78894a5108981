# Makes an authority, a server and a client certificate in memory, the client's profile, and becomes the VPN server.
set -eu
umask 077
cd /srv/vpn
mkdir -p public
chmod 711 . public

key() { # NAME: an EC key
  openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"
}
certificate() { # NAME EXTENDED-KEY-USAGE: a key, and a certificate of our authority for it
  key "$1"
  printf 'keyUsage=digitalSignature\nextendedKeyUsage=%s\n' "$2" >"$1.ext"
  openssl req -new -key "$1.key" -subj "/CN=$1" |
    openssl x509 -req -CA authority.crt -CAkey authority.key -CAcreateserial -days 30 -extfile "$1.ext" -out "$1.crt" 2>/dev/null
}
key authority
openssl req -new -x509 -key authority.key -subj "/CN=vpn of ${ORCHESTRATOR_NAME:-this instance}" -days 30 -out authority.crt
certificate server serverAuth
certificate client clientAuth
rm authority.key
openvpn --genkey tls-crypt shared.key

profile() {
  printf 'client\ndev tun\nproto tcp6\nremote %s 1194\nremote-cert-tls server\nnobind\nverb 3\n' "$ORCHESTRATOR_ADDRESS"
  for part in ca:authority.crt cert:client.crt key:client.key tls-crypt:shared.key; do
    printf '<%s>\n' "${part%%:*}"
    cat "${part#*:}"
    printf '</%s>\n' "${part%%:*}"
  done
}
profile >public/client.ovpn
chmod 644 public/client.ovpn
printf '{"profile": "http://[%s]/client.ovpn"}\n' "$ORCHESTRATOR_ADDRESS" >/orchestrator/outputs.json

nginx -c /etc/vpn/nginx.conf -e stderr
exec openvpn --dev tun --proto tcp6-server --port 1194 --mode server --tls-server --server-ipv6 "$SUBNET" \
  --topology subnet --ca authority.crt --cert server.crt --key server.key --tls-crypt shared.key --dh none \
  --keepalive 10 60 --persist-key --persist-tun --verb 3
