import type { NextFunction, Request, Response } from 'express'

/** Milliseconds in which a body must be there; and, where it may be large, within which more of it must come. */
const BODY_MS = 30_000
/** Requests whose body is a source or an image: they may take long, but not stand still. */
const LARGE = /^\/v1\/(builds|hosts\/archives\/[0-9a-f]{64})$/

/** Cuts off who sends a body too slowly, in place of one limit of the server that would end long uploads too. */
export function bodyInTime(request: Request, response: Response, next: NextFunction): void {
  const cut = () => {
    if (!request.complete) request.destroy()
  }
  if (LARGE.test(request.path)) {
    request.setTimeout(BODY_MS, cut)
    request.once('end', () => request.setTimeout(0))
  } else {
    const timer = setTimeout(cut, BODY_MS)
    request.once('end', () => clearTimeout(timer))
    response.once('close', () => clearTimeout(timer))
  }
  next()
}
