/**
 * The parts of @particle/dbus-next that bus.ts loads; its own types describe the package's main
 * entry only.
 */

declare module '@particle/dbus-next/lib/message.js' {
  interface Source {
    on(event: string, listener: () => void): void;
    read(length: number): Buffer | null;
  }
  const message: {
    unmarshalMessages(stream: Source, onMessage: (message: object) => void, options: object): void;
  };
  export default message;
}

declare module '@particle/dbus-next/lib/marshall-compat.js' {
  const compat: {
    marshallMessage(message: object): [data: Buffer, descriptors: unknown[]];
    messageToJsFmt(message: object): Record<string, unknown>;
  };
  export default compat;
}

declare module '@particle/dbus-next/lib/variant.js' {
  const variant: { Variant: new (signature: string, value: unknown) => object };
  export default variant;
}
