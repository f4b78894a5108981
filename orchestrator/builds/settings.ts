import { z } from 'zod'
import type { SettingsOf } from '../../common/config.ts'

const bytes = z.number().int().min(1).max(Number.MAX_SAFE_INTEGER)
const MIB = 1024 * 1024

/** Settings of builds: a part of the orchestrator's. */
export const buildSettings = {
  'builds.host': {
    schema: z
      .string()
      .regex(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/)
      .nullable(),
    default: null,
    summary: 'Host that builds images; null: any that is connected',
  },
  'builds.registry': {
    schema: z
      .string()
      .regex(/^[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?(\/[a-z0-9._-]+)*$/, 'expected HOST[:PORT][/PATH]')
      .nullable(),
    default: null,
    summary:
      'Registry that built images are pushed to, HOST[:PORT][/PATH]; null: the orchestrator keeps them for the hosts',
  },
  'builds.protocols': {
    schema: z.array(z.enum(['https', 'ssh', 'git', 'file'])).min(1),
    default: ['https', 'ssh'],
    summary:
      'Ways by which git repositories may be fetched: https, ssh, git, file (reads the disk of the orchestrator)',
  },
  'builds.most-packed-bytes': {
    schema: bytes,
    default: 64 * MIB,
    summary: 'Bytes of a packed source, or of a git repository, at most',
  },
  'builds.most-unpacked-bytes': {
    schema: bytes,
    default: 256 * MIB,
    summary: 'Bytes of all files of a source at most',
  },
  'builds.most-files': {
    schema: z.number().int().min(1).max(1_000_000),
    default: 10_000,
    summary: 'Files, folders and links of a source at most',
  },
  'builds.most-seconds': {
    schema: z.number().min(1).max(86_400),
    default: 900,
    summary: 'Seconds that a build may take, and the fetching of its source',
  },
  'builds.most-log-bytes': {
    schema: bytes,
    default: 16 * MIB,
    summary: 'Bytes that a build may print before it is ended',
  },
  'builds.most-image-bytes': {
    schema: bytes,
    default: 4096 * MIB,
    summary: 'Bytes of a built image that the orchestrator keeps for the hosts at most',
  },
  'builds.keep-days': {
    schema: z.number().min(0).max(3650),
    default: 7,
    summary: 'Days that a built image is kept though no template names it',
  },
} as const

export type BuildSettings = SettingsOf<typeof buildSettings>
