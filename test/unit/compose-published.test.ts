import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { compile } from '../../orchestrator/compose/compile.ts'

/**
 * Compose files as people publish them for common applications: what is said of each as it is, and the smallest change
 * with which it is a template.
 */
interface Published {
  readonly name: string
  /** Files beside it. */
  readonly files?: Readonly<Record<string, string>>
  /** `LINE KEY` of every fault of the file as it was published, beside that `x-orchestrator.summary` is missing. */
  readonly faults: readonly string[]
  /** What stands under `x-orchestrator`, and edits of the text, each of which has to hit. */
  readonly extension: string
  readonly edits?: readonly (readonly [RegExp, string])[]
  /** Keys of the notes once it runs. */
  readonly notes: readonly string[]
  readonly entry: { readonly service: string; readonly port: number }
  readonly images: readonly string[]
}

const FIXTURES = join(import.meta.dirname, '../fixtures/compose')

const PUBLISHED: readonly Published[] = [
  {
    name: 'web-database',
    faults: ['4 services.web.build'],
    extension: '{summary: web and database, parameters: {POSTGRES_PASSWORD: {}}}',
    edits: [[/build: \./, 'image: registry.example.net/web:1']],
    notes: [],
    entry: { service: 'web', port: 8000 },
    images: ['postgres:16', 'registry.example.net/web:1'],
  },
  {
    name: 'wordpress',
    faults: [],
    extension: '{summary: WordPress}',
    notes: [],
    entry: { service: 'wordpress', port: 80 },
    images: ['mysql:8.0', 'wordpress:latest'],
  },
  {
    name: 'gitea',
    faults: ['23 services.server.volumes[0]', '43 services.db.volumes[0]'],
    extension: '{summary: Gitea}',
    edits: [
      [/\.\/gitea:\/data/, 'gitea:/data'],
      [/ +- \/etc\/timezone.*\n +- \/etc\/localtime.*\n/, ''],
      [/\.\/mysql:/, 'mysql:'],
      [/$/, '\nvolumes: {gitea: {}, mysql: {}}\n'],
    ],
    notes: ['services.server.container_name', 'services.server.ports[1]'],
    entry: { service: 'server', port: 3000 },
    images: ['gitea/gitea:1.22', 'mysql:8'],
  },
  {
    name: 'prometheus-grafana',
    files: { 'prometheus/prometheus.yml': 'scrape_configs: []\n', 'grafana/datasource.yml': 'apiVersion: 1\n' },
    faults: ['null x-orchestrator.entry', '11 services.prometheus.volumes[0]', '23 services.grafana.volumes[0]'],
    extension:
      '{summary: Grafana, entry: grafana, files: {' +
      '/etc/prometheus/prometheus.yml: {file: prometheus/prometheus.yml, service: prometheus},' +
      '/etc/grafana/provisioning/datasources/datasource.yml: {file: grafana/datasource.yml}}}',
    edits: [
      [/ +- \.\/prometheus:\/etc\/prometheus\n/, ''],
      [/ +volumes:\n +- \.\/grafana.*\n/, ''],
    ],
    notes: ['services.prometheus.container_name', 'services.prometheus.ports', 'services.grafana.container_name'],
    entry: { service: 'grafana', port: 3000 },
    images: ['grafana/grafana', 'prom/prometheus'],
  },
  {
    name: 'nextcloud',
    files: { 'db.env': 'MYSQL_DATABASE=nextcloud\nMYSQL_USER=nextcloud\nMYSQL_PASSWORD=nextcloud\n' },
    faults: ['7 services.db.volumes[0]', '24 services.app.volumes[0]', '38 services.cron.volumes[0]'],
    extension: '{summary: Nextcloud}',
    edits: [[/:[zZ]$/gm, '']],
    notes: ['services.app.ports[0]', 'services.app.ports[0]'],
    entry: { service: 'app', port: 80 },
    images: ['mariadb:10.11', 'nextcloud:apache', 'redis:alpine'],
  },
  {
    name: 'ghost',
    faults: [],
    extension: '{summary: Ghost}',
    edits: [[/url: .*/, 'url: "http://[${INSTANCE_ADDRESS}]:2368"']],
    notes: ['services.ghost.ports[0]'],
    entry: { service: 'ghost', port: 2368 },
    images: ['ghost:5-alpine', 'mysql:8.0'],
  },
  {
    name: 'nginx-php-fpm',
    files: { 'src/index.php': '<?php phpinfo();', 'default.conf': 'server { listen 80; }\n' },
    faults: ['7 services.nginx.volumes[0]', '9 services.nginx.links', '14 services.php-fpm.volumes[0]'],
    extension:
      '{summary: PHP, files: {/etc/nginx/conf.d/default.conf: {file: default.conf},' +
      '/var/www/html/index.php: {file: src/index.php, service: php-fpm}}}',
    edits: [
      [/ +volumes:\n( +- \.\/.*\n)+/g, ''],
      [/ +links:\n +- php-fpm\n/, ''],
    ],
    notes: [],
    entry: { service: 'nginx', port: 80 },
    images: ['nginx:latest', 'php:8-fpm'],
  },
  {
    name: 'redis-worker',
    faults: ['27 services.worker.deploy.replicas'],
    extension: '{summary: web and worker}',
    edits: [[/ {4}deploy:\n {6}replicas: 3\n/, '']],
    notes: [
      'services.web.image',
      'services.worker.image',
      'services.web.environment.LOG_LEVEL',
      'services.worker.environment.LOG_LEVEL',
    ],
    entry: { service: 'web', port: 8000 },
    images: ['redis:7-alpine', 'registry.example.net/app:latest'],
  },
  {
    name: 'mqtt-node-red',
    files: { 'mosquitto.conf': 'listener 1883\n' },
    faults: [
      'null x-orchestrator.entry',
      '6 services.mosquitto.hostname',
      '15 services.mosquitto.configs[0].uid',
      '32 networks.iot.name',
      '36 volumes.node-red-data.name',
    ],
    extension: '{summary: Node-RED, entry: node-red}',
    edits: [
      [/ +hostname: .*\n/, ''],
      [/ +uid: .*\n/, ''],
      [/ +name: .*\n/g, ''],
    ],
    notes: ['services.mosquitto.container_name', 'services.mosquitto.ports'],
    entry: { service: 'node-red', port: 1880 },
    images: ['eclipse-mosquitto:2', 'nodered/node-red:latest'],
  },
  {
    name: 'elk',
    files: { 'logstash/pipeline/a.conf': 'input { }\n' },
    faults: [
      'null x-orchestrator.entry',
      '3 services.elasticsearch.image',
      '18 services.elasticsearch.mem_limit',
      '25 services.elasticsearch.networks.elastic.ipv4_address',
      '27 services.logstash.image',
      '30 services.logstash.volumes[0].source',
      '38 services.kibana.image',
    ],
    extension:
      '{summary: ELK, entry: kibana, parameters: {STACK_VERSION: {default: 8.15.0}, MEM_LIMIT: {default: 1g}},' +
      'files: {/usr/share/logstash/pipeline/a.conf: {file: logstash/pipeline/a.conf, service: logstash}}}',
    edits: [
      [/\$\{ES_PORT\}:9200/, '9200'],
      [/:\n +ipv4_address: .*\n/, ': {}\n'],
      [/ +volumes:\n +- type: bind\n( {8}.*\n)+/, ''],
    ],
    notes: [
      'services.elasticsearch.container_name',
      'services.elasticsearch.ports',
      'networks.elastic.ipam.config[0].subnet',
    ],
    entry: { service: 'kibana', port: 5601 },
    images: ['elasticsearch/elasticsearch', 'kibana/kibana', 'logstash/logstash'].map(
      (image) => `docker.elastic.co/${image}:8.15.0`,
    ),
  },
]

for (const { name, files = {}, faults, extension, edits = [], notes, entry, images } of PUBLISHED) {
  const text = readFileSync(join(FIXTURES, `${name}.yaml`), 'utf8')
  const run = (content: string) =>
    compile(
      {
        name,
        file: `${name}.yaml`,
        text: content,
        files: new Map(Object.entries(files).map(([p, t]) => [p, Buffer.from(t)])),
      },
      { base: () => null, trusted: () => false },
    )

  test(`${name}, as it is published: each key that cannot be is named with its line`, () => {
    const found = run(text).faults.map(({ line, key }) => `${line} ${key}`)
    assert.deepEqual(found, ['null x-orchestrator.summary', ...faults])
  })

  test(`${name} is a template with the smallest change`, () => {
    let changed = text
    for (const [pattern, replacement] of edits) {
      const next = changed.replace(pattern, () => replacement)
      assert.notEqual(next, changed, `${pattern} hits nothing`)
      changed = next
    }
    const { content, faults: left, notes: told } = run(`${changed}\nx-orchestrator: ${extension}\n`)
    assert.deepEqual(left, [])
    assert.ok(content)
    assert.deepEqual(
      told.map(({ key }) => key),
      notes,
    )
    assert.deepEqual(content.entry, entry)
    assert.deepEqual(content.images, images)
    assert.deepEqual(content.weakens, [])
  })
}
