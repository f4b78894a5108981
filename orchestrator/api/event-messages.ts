/** One message of an event stream (WHATWG HTML, section 9.2.6): its type (`message` unless named) and its data. */
export interface EventMessage {
  readonly event: string
  readonly data: string
}

/** Parses a stream of server-sent events; comments are left out, a message cut off by the end is dropped. */
export async function* eventMessages(text: AsyncIterable<string>): AsyncIterable<EventMessage> {
  let rest = ''
  let event = ''
  let data: string[] = []
  for await (const part of text) {
    const lines = (rest + part).split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) {
      if (line === '') {
        if (data.length > 0) yield { event: event || 'message', data: data.join('\n') }
        event = ''
        data = []
      } else if (line.startsWith('event:')) event = line.slice(6).trim()
      else if (line.startsWith('data:')) data.push(line.slice(5).replace(/^ /, ''))
    }
  }
}
