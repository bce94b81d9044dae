/** Link headers (RFC 8288): where the next page of a list is. */

const MAX_LENGTH = 8192;
const LINK = /\s*<([^>]*)>((?:\s*;\s*[\w-]+\*?(?:\s*=\s*(?:"(?:[^"\\]|\\.)*"|[^\s";,]+))?)*)\s*(?:,|$)/sy;
const RELATION = /;\s*rel\s*=\s*(?:"([^"]*)"|([^\s";,]+))/i;

/** The target of the first link that is `rel="next"`; undefined when there is none. */
export function nextLink(header: string | readonly string[] | undefined): string | undefined {
  const lines = header === undefined ? [] : typeof header === 'string' ? [header] : header;
  for (const whole of lines) {
    const line = whole.slice(0, MAX_LENGTH);
    LINK.lastIndex = 0;
    for (let match = LINK.exec(line); match !== null && match[0] !== ''; match = LINK.exec(line)) {
      const relation = RELATION.exec(match[2] ?? '');
      const names = (relation?.[1] ?? relation?.[2] ?? '').toLowerCase().split(/\s+/);
      if (names.includes('next')) return match[1] ?? '';
    }
  }
  return undefined;
}
