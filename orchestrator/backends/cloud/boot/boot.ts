import { gzipSync } from 'node:zlib'
import { stringify } from 'yaml'
import { InvalidInput } from '../../../../common/errors.ts'
import type { Order } from '../../../domain/instance.ts'
import type { Engine } from './container.ts'
import { type BootContent, bootContent, OUTPUTS_BYTES, OUTPUTS_MARK } from './content.ts'

/** How a machine is told at its first boot what it is. */
export interface BootFormat {
  readonly boot: 'cloud-init' | 'ignition'
  readonly engine: Engine
  /** Packages that cloud-init installs first. */
  readonly packages: readonly string[]
  /** Bytes that the provider takes. */
  readonly mostBytes: number
}

/** The Ignition specification that is written: all since Ignition 2.9 (2021) read it. */
const IGNITION_VERSION = '3.3.0'
const GZIP_SAVES = 64

/**
 * The boot data of a machine that is to be this instance.
 * @throws InvalidInput naming what cannot be expressed there, or that it is too much for the provider
 */
export function bootData(order: Order, format: BootFormat): string {
  const content = bootContent(order, format.engine)
  const data = format.boot === 'ignition' ? ignition(content) : cloudConfig(content, format.packages)
  const bytes = Buffer.byteLength(data)
  if (bytes > format.mostBytes) {
    throw new InvalidInput(
      'services',
      `its services and files are ${bytes} bytes of boot data, and the provider takes ${format.mostBytes}: put files into an image`,
    )
  }
  return data
}

/** User data of cloud-init (its documentation, "Cloud config data"). */
function cloudConfig(content: BootContent, packages: readonly string[]): string {
  const files = [
    ...content.files,
    ...content.units.map(({ name, content: unit }) => ({
      path: `/etc/systemd/system/${name}`,
      mode: 0o644,
      content: Buffer.from(unit),
    })),
  ]
  const config = {
    hostname: content.hostname,
    preserve_hostname: false,
    ...(packages.length > 0 && { package_update: true, packages }),
    // The folders are made before what lies in them: their modes keep others out from the start.
    bootcmd: content.directories.map(({ path, mode }) => ['install', '-d', '-m', mode.toString(8), path]),
    write_files: files.map(({ path, mode, content: bytes }) => {
      const zipped = gzipSync(bytes, { level: 9 })
      const smaller = zipped.length + GZIP_SAVES < bytes.length
      return {
        path,
        owner: 'root:root',
        permissions: `0${mode.toString(8)}`,
        encoding: smaller ? 'gz+b64' : 'b64',
        content: Buffer.from(smaller ? zipped : bytes).toString('base64'),
      }
    }),
    runcmd: [
      ['systemctl', 'daemon-reload'],
      ['systemctl', 'enable', '--now', '--no-block', ...content.units.map(({ name }) => name)],
    ],
  }
  // cloud-init reads YAML 1.1, in which more words than here are no texts: `on`, `no`, dates.
  return `#cloud-config\n${stringify(config, { lineWidth: 0, version: '1.1' })}`
}

/** Ignition's configuration (coreos.github.io/ignition/configuration-v3_3). */
function ignition(content: BootContent): string {
  return JSON.stringify({
    ignition: { version: IGNITION_VERSION },
    storage: {
      directories: content.directories.map(({ path, mode }) => ({ path, mode })),
      files: [
        ...content.files.map(({ path, mode, content: bytes }) => ({
          path,
          mode,
          overwrite: true,
          contents: contents(bytes),
        })),
        {
          path: '/etc/hostname',
          mode: 0o644,
          overwrite: true,
          contents: contents(Buffer.from(`${content.hostname}\n`)),
        },
      ],
    },
    systemd: { units: content.units.map(({ name, content: contents }) => ({ name, enabled: true, contents })) },
  })
}

function contents(bytes: Uint8Array): { source: string; compression?: 'gzip' } {
  const zipped = gzipSync(bytes, { level: 9 })
  const smaller = zipped.length + GZIP_SAVES < bytes.length
  const source = `data:;base64,${Buffer.from(smaller ? zipped : bytes).toString('base64')}`
  return smaller ? { source, compression: 'gzip' } : { source }
}

/**
 * The outputs that a machine told last on its console; null: none that came whole. Whoever owns the machine may print
 * anything there: not to be trusted.
 */
export function outputsIn(console: string): string | null {
  const line = new RegExp(`${OUTPUTS_MARK}((?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?)\\r?\\n`, 'g')
  const last = [...console.matchAll(line)].at(-1)?.[1] ?? ''
  const bytes = Buffer.from(last, 'base64')
  return bytes.length === 0 || bytes.length > OUTPUTS_BYTES ? null : bytes.toString()
}
