import { OrchestratorError } from '../../common/errors.ts'

/** Does what writes below a folder. @throws OrchestratorError `storage-full` when there is no room left; else what `work` throws */
export async function withRoom<T>(directory: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : ''
    if (code !== 'ENOSPC' && code !== 'EDQUOT') throw error
    throw new OrchestratorError('storage-full', `there is no room left in ${directory}`, {
      retryable: true,
      cause: error,
    })
  }
}
