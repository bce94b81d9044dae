/** Where a containerd listens, as users write it. */
import { Code, LaminaError } from '../base/index.js';

/** The longest path that fits `sockaddr_un` with its end. */
const LONGEST_PATH = 107;

/**
 * The path of the socket that an address names: `/run/containerd/containerd.sock`, or the same
 * behind `unix://`.
 * @throws LaminaError InvalidArgument that says what an address looks like
 */
export function socketPathOf(address: string): string {
  const path = address.replace(/^unix:(\/\/)?/, '');
  const why = !path.startsWith('/')
    ? 'expected the path of a socket, such as /run/containerd/containerd.sock'
    : Buffer.byteLength(path) > LONGEST_PATH
      ? `a socket's path has at most ${LONGEST_PATH} bytes`
      : path.includes('\0')
        ? 'a path has no zero byte'
        : undefined;
  if (why === undefined) return path;
  throw new LaminaError(Code.InvalidArgument, `containerd's address ${JSON.stringify(address)}: ${why}`, {
    subject: address,
  });
}

const REMEDIES: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such socket: is containerd started, and is this its address (grpc.address in its config.toml)?',
  ECONNREFUSED: 'containerd does not listen there any more: start it (systemctl start containerd)',
  EACCES: 'permission denied: run this as the user that may use the socket, usually root (sudo lamina …)',
  EPERM: 'permission denied: run this as the user that may use the socket, usually root (sudo lamina …)',
  ENOTSOCK: 'this is no socket: give the path of containerd.sock',
  EPROTOTYPE: 'this is no stream socket: give the path of containerd.sock, without .ttrpc',
  ENOTDIR: 'a part of this path is no directory',
};

const REFUSED: readonly string[] = ['EACCES', 'EPERM'];

/** Why a connection failed, with the address and what to do. */
export function connectionError(address: string, errno: string | undefined, cause: unknown): LaminaError {
  const text = cause instanceof Error ? cause.message : String(cause);
  const why =
    REMEDIES[errno ?? ''] ??
    (errno === 'ERR_HTTP2_ERROR' || errno === 'ERR_HTTP2_STREAM_ERROR' || errno === 'ERR_HTTP2_SESSION_ERROR'
      ? `what listens there does not speak gRPC (${text}): give the path of containerd.sock, without .ttrpc`
      : `the connection was lost (${text}): look at containerd's log, and try again`);
  const code = REFUSED.includes(errno ?? '') ? Code.PermissionDenied : Code.Unavailable;
  return new LaminaError(code, `containerd at ${address}: ${why}`, { subject: address, cause });
}
