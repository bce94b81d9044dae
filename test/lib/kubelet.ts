/**
 * The kubelet's part, played by hand: pods and their containers, asked for over containerd's CRI
 * plugin.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { type GrpcClient, GrpcConnection } from '../../src/containerd/index.js';
import { mustRun } from './command.js';
import type { Containerd } from './containerd.js';
import * as cri from './gen/clients/cri.js';
import { IMAGE } from './image.js';
import { USE_SYSTEMD } from './repo.js';
import { LATE_MS, until } from './wait.js';

/** containerd's own, for everything a kubelet asks for. */
export const K8S_NAMESPACE = 'k8s.io';

/** As in `ContainerStatus.state`. */
export const CONTAINER_EXITED = 2;

export interface PodOptions {
  /** One pid namespace for all containers of the pod. */
  readonly sharePid?: boolean;
  /** A user namespace of the pod's own, with these ids. */
  readonly userns?: IdRange;
}

/** Ids of a pod's user namespace: 0 of the container is `hostId` of the node, and so on. */
export interface IdRange {
  readonly hostId: number;
  readonly length: number;
}

export interface ContainerOptions {
  readonly resources?: Partial<cri.LinuxContainerResources>;
  /** A folder of the node's, which a pod with a user namespace sees with its own ids. */
  readonly volume?: { readonly hostPath: string; readonly path: string };
}

function usernsOf(range: IdRange): cri.UserNamespace {
  return { mode: cri.NamespaceMode.POD, uids: [mappingOf(range)], gids: [mappingOf(range)] };
}

const mappingOf = ({ hostId, length }: IdRange): cri.IDMapping =>
  cri.IDMapping.fromPartial({ hostId, containerId: 0, length });

/** What an exec or a container has written and how it ended. */
export interface Outcome {
  readonly stdout: string;
  readonly stderr: string;
  readonly code: number;
}

export class Kubelet {
  readonly #daemon: Containerd;
  #connection: GrpcConnection;
  #service: GrpcClient<typeof cri.RuntimeServiceDefinition>;
  #count = 0;

  private constructor(daemon: Containerd) {
    this.#daemon = daemon;
    this.#connection = new GrpcConnection(daemon.address, { timeoutMs: LATE_MS });
    this.#service = this.#connection.client(cri.RuntimeServiceDefinition);
  }

  static async start(daemon: Containerd): Promise<Kubelet> {
    const kubelet = new Kubelet(daemon);
    await kubelet.#ready();
    return kubelet;
  }

  get service(): GrpcClient<typeof cri.RuntimeServiceDefinition> {
    return this.#service;
  }

  /** Connects again, to a daemon that was restarted. Pods and containers stay valid. */
  async reconnect(): Promise<void> {
    this.#connection[Symbol.dispose]();
    this.#connection = new GrpcConnection(this.#daemon.address, { timeoutMs: LATE_MS });
    this.#service = this.#connection.client(cri.RuntimeServiceDefinition);
    await this.#ready();
  }

  /** The plugin answers some time after the daemon does. */
  async #ready(): Promise<void> {
    let last: unknown;
    const answers = async (): Promise<boolean> => {
      try {
        await this.#service.listPodSandbox({});
        return true;
      } catch (error) {
        last = error;
        return false;
      }
    };
    await until('the CRI plugin answers', answers, { detail: () => `${last}\n${this.#daemon.logTail()}` });
  }

  /** The parent of all cgroups of this kubelet's pods: a slice, or a path. */
  get #cgroupParent(): string {
    const { marker } = this.#daemon;
    // a dash in a slice's name means a slice in a slice
    return USE_SYSTEMD ? `${marker.replaceAll('-', '')}.slice` : `/${marker}-pods`;
  }

  /** Removes the parent, as the kubelet's own business; it must be empty. */
  async removeCgroupParent(): Promise<void> {
    if (USE_SYSTEMD) {
      await mustRun(['systemctl', 'stop', this.#cgroupParent]);
      return;
    }
    const root = '/sys/fs/cgroup';
    const hierarchies = [root, ...readdirSync(root).map((name) => join(root, name))];
    for (const parent of hierarchies.map((hierarchy) => join(hierarchy, this.#cgroupParent)).filter(existsSync))
      rmdirSync(parent);
  }

  close(): void {
    this.#connection[Symbol.dispose]();
  }

  /** The pid of a container's or a sandbox's init. */
  async pidOf(id: string): Promise<number> {
    const { stdout } = await this.#daemon.ctr(K8S_NAMESPACE, ['tasks', 'ls']);
    const rows = stdout.split('\n').map((line) => line.trim().split(/\s+/));
    return Number(rows.find((row) => row[0] === id)?.[1] ?? 0);
  }

  /** Starts a pod: in the host's network, or with a user namespace in one of its own (cni.ts). */
  async runPod(runtimeHandler: string, options: PodOptions = {}): Promise<Pod> {
    this.#count += 1;
    const name = `pod${this.#count}`;
    const logs = join(this.#daemon.dir, 'logs', name);
    mkdirSync(logs, { recursive: true });
    const namespaces = {
      // The plugin keeps a pod's user namespace beside its network's.
      network: options.userns === undefined ? cri.NamespaceMode.NODE : cri.NamespaceMode.POD,
      pid: options.sharePid === true ? cri.NamespaceMode.POD : cri.NamespaceMode.CONTAINER,
      ...(options.userns === undefined ? {} : { usernsOptions: usernsOf(options.userns) }),
    };
    const config = cri.PodSandboxConfig.fromPartial({
      metadata: { name, uid: `${name}-${this.#daemon.marker}`, namespace: 'default' },
      logDirectory: logs,
      linux: { cgroupParent: this.#cgroupParent, securityContext: { namespaceOptions: namespaces } },
    });
    const { podSandboxId } = await this.service.runPodSandbox({ config, runtimeHandler });
    this.#daemon.track(K8S_NAMESPACE, podSandboxId);
    return new Pod(this, podSandboxId, config);
  }
}

export class Pod {
  readonly #kubelet: Kubelet;
  readonly id: string;
  readonly #config: cri.PodSandboxConfig;
  #count = 0;

  constructor(kubelet: Kubelet, id: string, config: cri.PodSandboxConfig) {
    this.#kubelet = kubelet;
    this.id = id;
    this.#config = config;
  }

  /** Creates a container in the pod and starts it. */
  async start(command: readonly string[], options: ContainerOptions = {}): Promise<PodContainer> {
    this.#count += 1;
    const name = `c${this.#count}`;
    const config = cri.ContainerConfig.fromPartial({
      metadata: { name },
      image: { image: IMAGE },
      command: [...command],
      logPath: `${name}.log`,
      mounts: options.volume === undefined ? [] : [this.#mount(options.volume)],
      linux: {
        ...(options.resources === undefined ? {} : { resources: options.resources }),
        securityContext: { namespaceOptions: this.#config.linux?.securityContext?.namespaceOptions ?? {} },
      },
    });
    const { service } = this.#kubelet;
    const { containerId } = await service.createContainer({
      podSandboxId: this.id,
      config,
      sandboxConfig: this.#config,
    });
    await service.startContainer({ containerId });
    return new PodContainer(this.#kubelet, containerId, join(this.#config.logDirectory, config.logPath));
  }

  #mount({ hostPath, path }: { readonly hostPath: string; readonly path: string }): Partial<cri.Mount> {
    const userns = this.#config.linux?.securityContext?.namespaceOptions?.usernsOptions;
    return {
      hostPath,
      containerPath: path,
      uidMappings: userns?.uids ?? [],
      gidMappings: userns?.gids ?? [],
    };
  }

  /** Stops everything in the pod and removes it. */
  async remove(): Promise<void> {
    await this.#kubelet.service.stopPodSandbox({ podSandboxId: this.id });
    await this.#kubelet.service.removePodSandbox({ podSandboxId: this.id });
  }
}

export class PodContainer {
  readonly #kubelet: Kubelet;
  readonly id: string;
  readonly #logPath: string;

  constructor(kubelet: Kubelet, id: string, logPath: string) {
    this.#kubelet = kubelet;
    this.id = id;
    this.#logPath = logPath;
  }

  async status(): Promise<cri.ContainerStatus> {
    const { status } = await this.#kubelet.service.containerStatus({ containerId: this.id });
    if (status === undefined) throw new Error(`no status of ${this.id}`);
    return status;
  }

  /** Waits until the container has ended, and returns its status. */
  async ended(): Promise<cri.ContainerStatus> {
    return await until(`${this.id} has ended`, async () => {
      const status = await this.status();
      return status.state === CONTAINER_EXITED && status;
    });
  }

  /** @param timeoutSeconds until SIGKILL; 0 sends it at once */
  async stop(timeoutSeconds: number): Promise<void> {
    await this.#kubelet.service.stopContainer({ containerId: this.id, timeout: BigInt(timeoutSeconds) });
  }

  async remove(): Promise<void> {
    await this.#kubelet.service.removeContainer({ containerId: this.id });
  }

  async stats(): Promise<cri.ContainerStats> {
    const { stats } = await this.#kubelet.service.containerStats({ containerId: this.id });
    if (stats === undefined) throw new Error(`no statistics of ${this.id}`);
    return stats;
  }

  async update(resources: Partial<cri.LinuxContainerResources>): Promise<void> {
    const request = { containerId: this.id, linux: cri.LinuxContainerResources.fromPartial(resources) };
    await this.#kubelet.service.updateContainerResources(request);
  }

  /** Runs a command in the container to its end. @param timeoutSeconds 0 waits for ever */
  async exec(cmd: readonly string[], timeoutSeconds = 0): Promise<Outcome> {
    const request = { containerId: this.id, cmd: [...cmd], timeout: BigInt(timeoutSeconds) };
    const { stdout, stderr, exitCode } = await this.#kubelet.service.execSync(request);
    return { stdout: Buffer.from(stdout).toString(), stderr: Buffer.from(stderr).toString(), code: exitCode };
  }

  /** The pid of its init. */
  async pid(): Promise<number> {
    return await this.#kubelet.pidOf(this.id);
  }

  /**
   * What the container has written, as lines `stdout text`: containerd's log format without times
   * and flags.
   */
  log(): string[] {
    const lines = readFileSync(this.#logPath, 'utf8').split('\n').slice(0, -1);
    return lines.map((line) => line.replace(/^\S+ (\S+) \S /, '$1 '));
  }
}
