import { PassThrough, type Readable } from 'node:stream'

/** What a stream of JSON texts says, one to a line. */
export async function* jsonLines<T>(stream: Readable): AsyncGenerator<T> {
  let rest = ''
  for await (const chunk of stream.setEncoding('utf8')) {
    const lines = (rest + chunk).split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines.filter((l) => l.trim() !== '')) yield JSON.parse(line) as T
  }
  if (rest.trim() !== '') yield JSON.parse(rest) as T
}

/** Text of a log as it comes. @param unframe takes the frames off */
export async function* logStream(
  answer: Readable,
  terminal: boolean,
  unframe: (from: Readable, into: PassThrough) => void,
): AsyncGenerator<string> {
  if (terminal) {
    for await (const chunk of answer.setEncoding('utf8')) yield chunk as string
    return
  }
  const text = new PassThrough()
  unframe(answer, text)
  answer.on('end', () => text.end())
  answer.on('error', (error) => text.destroy(error))
  for await (const chunk of text.setEncoding('utf8')) yield chunk as string
}
