import { createTypeScriptImportResolver } from 'eslint-import-resolver-typescript'
import { importX } from 'eslint-plugin-import-x'
import tseslint from 'typescript-eslint'

/**
 * The arrows of docs/architecture.md as errors. `only(room, …)`: what that room of the orchestrator may see there.
 * test/contract/arrows.test.ts keeps these rules honest with a tree that breaks each of them.
 */
const o = './orchestrator'
const only = (target, ...except) => ({ target, from: o, except })

export const zones = [
  { target: './common', from: ['./orchestrator', './unionize', './lab'] },
  { target: './unionize', from: ['./orchestrator', './lab'] },
  { target: o, from: './lab' },
  { target: [`${o}/!(backends|api)/**`, `${o}/*.ts`], from: './unionize' },
  { target: [`${o}/api/!(hosts)/**`, `${o}/api/*.ts`], from: './unionize' },
  { target: `${o}/api/hosts`, from: './unionize', except: ['./contract.ts'] },
  { target: [`${o}/backends/!(docker)/**`, `${o}/backends/*.ts`], from: './unionize' },
  { target: `${o}/backends/docker`, from: './unionize', except: ['./contract.ts'] },
  only(`${o}/domain`, './domain'),
  only(`${o}/compose`, './compose', './domain'),
  only(`${o}/catalog`, './catalog', './compose', './domain', './store/store.ts', './pki/seal.ts'),
  only(`${o}/builds`, './builds', './domain', './store/store.ts'),
  {
    target: `${o}/access`,
    from: o,
    except: ['./access', './backends', './domain', './store/store.ts', './pki/seal.ts'],
  },
  {
    target: `${o}/access`,
    from: `${o}/backends`,
    except: ['./backend.ts', './call-metrics.ts', './checks.ts', './guarded.ts', './load.ts'],
  },
  only(`${o}/intake.ts`, './domain', './store/store.ts', './catalog/choose.ts', './instantiation.ts'),
  only(`${o}/instantiation.ts`, './domain', './store/store.ts', './catalog/choose.ts'),
  only(`${o}/store`, './store', './domain'),
  only(`${o}/pki`, './pki', './domain', './store/store.ts'),
  only(
    `${o}/api`,
    './api',
    './domain',
    './store/store.ts',
    './intake.ts',
    './pki',
    './catalog',
    './builds',
    './compose',
  ),
  only(`${o}/reconciler`, './reconciler', './domain', './store/store.ts', './backends/backend.ts', './compose'),
  only(
    `${o}/cli`,
    './cli',
    './api/client.ts',
    './api/transport.ts',
    './api/wire.ts',
    './compose',
    './catalog/sources.ts',
    './catalog/compiled.ts',
    './catalog/rules-file.ts',
    ...['config', 'config-content', 'config-ignition', 'config-cloud'].map((n) => `./backends/coreos/machines/${n}.ts`),
  ),
  ...['docker', 'fake', 'swarm', 'cloud', 'coreos/!(machines)/**', 'coreos/*.ts'].map((b) =>
    only(
      `${o}/backends/${b}`,
      `./backends/${b.replace(/\/.*/, '')}`,
      './backends/backend.ts',
      './backends/generations.ts',
      './backends/one-network.ts',
      './backends/turns.ts',
      './domain',
    ),
  ),
  only(
    `${o}/backends/coreos/machines`,
    './backends/coreos',
    './backends/backend.ts',
    './domain',
    './compose/document.ts',
    './compose/faults.ts',
  ),
  { target: `${o}/backends/*.ts`, from: o, except: ['./backends', './domain'] },
]

const adapters = {
  dockerode: [
    'unionize/engine/containers.ts',
    'unionize/engine/calls.ts',
    'unionize/images/engine.ts',
    'orchestrator/backends/swarm/engine.ts',
  ],
  ssh2: ['orchestrator/backends/coreos/ssh.ts'],
  '@aws-sdk/client-ec2': ['orchestrator/backends/cloud/providers/ec2/calls/*.ts'],
  knex: ['orchestrator/store/*.ts'],
  koffi: ['unionize/wiring/kernel/*.ts', 'common/systemd.ts'],
  chokidar: ['unionize/leases/**/*.ts', 'orchestrator/catalog/directory.ts'],
  ip6addr: ['common/ipv6.ts'],
}

export default tseslint.config(
  { ignores: ['dist/**', 'node_modules/**', 'test/fixtures/**'] },
  {
    files: ['**/*.ts'],
    languageOptions: { parser: tseslint.parser, parserOptions: { projectService: true } },
    plugins: { 'import-x': importX, '@typescript-eslint': tseslint.plugin },
    settings: { 'import-x/extensions': ['.ts'], 'import-x/resolver-next': [createTypeScriptImportResolver()] },
    rules: {
      'import-x/no-cycle': 'error',
      'import-x/no-restricted-paths': ['error', { zones }],
      '@typescript-eslint/no-floating-promises': [
        'error',
        { allowForKnownSafeCalls: ['it', 'test', 'describe', 'suite'] },
      ],
      '@typescript-eslint/no-misused-promises': [
        'error',
        { checksVoidReturn: { arguments: false, attributes: false } },
      ],
      '@typescript-eslint/await-thenable': 'error',
      '@typescript-eslint/switch-exhaustiveness-check': 'error',
    },
  },
  {
    files: ['orchestrator/domain/**/*.ts'],
    rules: {
      'no-restricted-imports': ['error', { patterns: ['node:*', 'knex', 'express', 'pino', 'ws', 'dockerode'] }],
      'no-restricted-globals': ['error', 'Date', 'process', 'setTimeout', 'setInterval', 'fetch', 'crypto'],
      'no-restricted-properties': ['error', { object: 'Math', property: 'random' }],
    },
  },
  {
    // One adapter for each foreign library that talks to the outside.
    files: ['{common,orchestrator,unionize}/**/*.ts'],
    ignores: ['orchestrator/domain/**', ...Object.values(adapters).flat()],
    rules: { 'no-restricted-imports': ['error', { paths: Object.keys(adapters) }] },
  },
  ...Object.entries(adapters).map(([own, files]) => ({
    files,
    rules: { 'no-restricted-imports': ['error', { paths: Object.keys(adapters).filter((name) => name !== own) }] },
  })),
)
