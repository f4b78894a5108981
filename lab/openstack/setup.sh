#!/bin/bash
# Makes one OpenStack of what rootfs.ts installed: Keystone, Glance, Placement, Nova with its fake driver, Neutron with
# Linux bridges. Runs once, inside the machine, as its first service. Usage: setup.sh ADDRESS
set -euo pipefail
address=$1
url=http://$address
socket='unix_socket=/run/mysqld/mysqld.sock&charset=utf8'

connection() { echo "connection = mysql+pymysql://os:os@localhost/$1?$socket"; }
account() { # SECTION USER: how a service signs in
  cat <<E
[$1]
auth_url = $url:5000/v3
auth_type = password
project_domain_name = Default
user_domain_name = Default
project_name = service
region_name = RegionOne
username = $2
password = $2
E
}
gate() { account keystone_authtoken "$1" && echo "www_authenticate_uri = $url:5000/v3"; }
as() { su -s /bin/sh "$1" -c "$2"; }

for name in keystone glance placement nova nova_api nova_cell0 neutron; do
  mysql -e "CREATE DATABASE $name; GRANT ALL ON $name.* TO 'os'@'localhost' IDENTIFIED BY 'os';"
done

cat >/etc/keystone/keystone.conf <<E
[database]
$(connection keystone)
[token]
provider = fernet
[identity]
# Not kept from anybody: each start of an orchestrator signs in, and each service looks at each new token.
password_hash_rounds = 4
[cache]
enabled = true
backend = dogpile.cache.memory
E
cat >/etc/glance/glance-api.conf <<E
[DEFAULT]
enabled_backends = files:file
workers = 1
[database]
$(connection glance)
$(gate glance)
[paste_deploy]
flavor = keystone
[glance_store]
default_backend = files
[files]
filesystem_store_datadir = /var/lib/glance/images
E
cat >/etc/placement/placement.conf <<E
[api]
auth_strategy = keystone
[placement_database]
$(connection placement)
$(gate placement)
E
cat >/etc/nova/nova.conf <<E
[DEFAULT]
transport_url = rabbit://guest:guest@localhost:5672/
my_ip = $address
state_path = /var/lib/nova
log_dir = /var/log/nova
osapi_compute_workers = 1
metadata_workers = 1
vif_plugging_is_fatal = false
vif_plugging_timeout = 0
compute_driver = fake.FakeDriver
[conductor]
workers = 1
[scheduler]
workers = 1
discover_hosts_in_cells_interval = 5
[api_database]
$(connection nova_api)
[database]
$(connection nova)
$(gate nova)
[api]
auth_strategy = keystone
# Small, so that a few machines are several pages.
max_limit = 3
[oslo_policy]
policy_file = policy.yaml
# Under uwsgi nothing sends heartbeats, and a connection that RabbitMQ has closed for it holds up the next request.
[oslo_messaging_rabbit]
heartbeat_timeout_threshold = 0
[glance]
api_servers = $url:9292
$(account placement placement)
$(account neutron neutron)
$(account service_user nova)
send_service_user_token = true
[oslo_concurrency]
lock_path = /var/lock/nova
E
printf '[DEFAULT]\ncompute_driver = fake.FakeDriver\n' >/etc/nova/nova-compute.conf
# Zed's own rules let any role of a project make machines; newer ones do not let a reader.
cat >/etc/nova/policy.yaml <<'E'
"os_compute_api:servers:create": "role:admin or role:member"
"os_compute_api:servers:delete": "role:admin or role:member"
E
cat >/etc/neutron/neutron.conf <<E
[DEFAULT]
core_plugin = ml2
service_plugins = router
transport_url = rabbit://guest:guest@localhost:5672/
auth_strategy = keystone
notify_nova_on_port_status_changes = true
notify_nova_on_port_data_changes = true
api_workers = 1
rpc_workers = 1
[oslo_messaging_rabbit]
heartbeat_timeout_threshold = 0
[experimental]
linuxbridge = true
[database]
$(connection neutron)
$(gate neutron)
$(account nova nova)
[oslo_concurrency]
lock_path = /var/lock/neutron
[agent]
root_helper = sudo /usr/bin/neutron-rootwrap /etc/neutron/rootwrap.conf
E
cat >/etc/neutron/plugins/ml2/ml2_conf.ini <<'E'
[ml2]
type_drivers = flat,vxlan,local
tenant_network_types = vxlan
mechanism_drivers = linuxbridge
extension_drivers = port_security
[ml2_type_vxlan]
vni_ranges = 1:1000
[ml2_type_flat]
flat_networks = *
E
cat >/etc/neutron/plugins/ml2/linuxbridge_agent.ini <<E
[vxlan]
enable_vxlan = true
local_ip = $address
[securitygroup]
enable_security_group = false
firewall_driver = noop
E

# Its threads switch each other's greenlets, which fails and, with several callers, stops it for good: processes instead.
sed -i -e 's/^processes = .*/processes = 2/' -e 's/^threads = .*/threads = 1/' /etc/neutron/neutron-api-uwsgi.ini

as keystone 'keystone-manage db_sync'
keystone-manage fernet_setup --keystone-user keystone --keystone-group keystone
keystone-manage credential_setup --keystone-user keystone --keystone-group keystone
keystone-manage bootstrap --bootstrap-password admin --bootstrap-region-id RegionOne \
  --bootstrap-admin-url "$url:5000/v3/" --bootstrap-internal-url "$url:5000/v3/" --bootstrap-public-url "$url:5000/v3/"
chown -R keystone:keystone /var/log/keystone /etc/keystone/fernet-keys
systemctl start keystone
echo 'stage: databases'
as glance 'glance-manage db_sync'
as placement 'placement-manage db sync'
as nova 'nova-manage api_db sync'
as nova 'nova-manage cell_v2 map_cell0'
as nova 'nova-manage cell_v2 create_cell --name=cell1'
as nova 'nova-manage db sync'
as neutron 'neutron-db-manage --config-file /etc/neutron/neutron.conf \
  --config-file /etc/neutron/plugins/ml2/ml2_conf.ini upgrade head'
echo 'stage: catalog'
python3 - "$url" <<'E'
import sys
import openstack

url = sys.argv[1]
cloud = openstack.connect(
    auth_url=url + ':5000/v3', username='admin', password='admin', project_name='admin',
    user_domain_name='Default', project_domain_name='Default', region_name='RegionOne', identity_api_version=3)
project = cloud.create_project('service', domain_id='default')
for user, kind, port in (('glance', 'image', '9292'), ('placement', 'placement', '8778'),
                         ('nova', 'compute', '8774/v2.1'), ('neutron', 'network', '9696')):
    made = cloud.create_user(user, password=user, domain_id='default')
    cloud.grant_role('admin', user=made.id, project=project.id)
    service = cloud.identity.create_service(name=user, type=kind)
    for interface in ('public', 'internal', 'admin'):
        cloud.identity.create_endpoint(
            service_id=service.id, interface=interface, url=url + ':' + port, region_id='RegionOne')
E
chown -R nova:nova /var/lib/nova
echo 'stage: services'
systemctl start glance-api placement-api neutron-api neutron-rpc-server neutron-linuxbridge-agent \
  nova-conductor nova-scheduler nova-api nova-compute
echo 'stage: done'
