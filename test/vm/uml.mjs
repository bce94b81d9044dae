// User-mode Linux: the guest's kernel is a program. Boots in a third of qemu's time, but has no SMP, cpuset, hugetlb, PSI.

/** From spawning to the first line of the guest's script; measured 6 s, so this is a hung boot. */
const BOOT_TIMEOUT_MS = 240_000;

/**
 * io_uring is off because this kernel panics when the child of a process with a ring unmaps it.
 * hostfs reaches the host's files, which here are those below `$root`.
 */
const LAUNCH = `
chroot "$root" /usr/bin/linux.uml umid=lamina seccomp=on mem="\${memory}M" \\
  ubd0="/share/run/disk.cow,/share/images/$image" ubd1=/share/run/swap root=/dev/ubda \\
  con0=null,fd:1 con=null ssl0=null,fd:3 ssl=null $parameters lamina.swap=/dev/ubdb \\
  sysctl.kernel.io_uring_disabled=2 \\
  systemd.mount-extra=none:/usr/lib/modules:hostfs:ro,hostfs=/usr/lib/uml/modules \\
  systemd.mount-extra=none:/host:hostfs:ro,hostfs=/share/repo \\
  systemd.mount-extra=none:/out:hostfs:rw,hostfs=/share/run/out
`;

/** The machine, see guest.mjs. */
export const UML = { about: 'user-mode Linux', launch: LAUNCH, bootMs: BOOT_TIMEOUT_MS };
