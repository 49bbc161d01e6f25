/**
 * Addresses of other services (model servers, feature stores, registries, object stores). They come from settings only,
 * never from a request. Link-local addresses, behind which clouds keep the credentials of a machine, are refused, as a
 * literal and as what a name resolves to.
 */
import { type LookupAddress, lookup } from 'node:dns';
import { BlockList, isIP, isIPv4, isIPv6, type LookupFunction } from 'node:net';
import { BelfryError } from '../errors.js';

/** RFC 3927 and RFC 4291 link-local, and the metadata services that stand elsewhere (AWS over IPv6, Alibaba, Oracle). */
const LINK_LOCAL = new BlockList();
LINK_LOCAL.addSubnet('169.254.0.0', 16, 'ipv4');
LINK_LOCAL.addSubnet('fe80::', 10, 'ipv6');
LINK_LOCAL.addAddress('fd00:ec2::254', 'ipv6');
LINK_LOCAL.addAddress('100.100.100.200', 'ipv4');
LINK_LOCAL.addAddress('192.0.0.192', 'ipv4');
const METADATA_NAMES = /^(metadata\.google\.internal|metadata|instance-data(\.ec2\.internal)?)\.?$/i;

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet('127.0.0.0', 8, 'ipv4');
LOOPBACK.addAddress('::1', 'ipv6');

export interface AddressRules {
  /** Without the colon; default http and https. */
  readonly protocols?: readonly string[];
  /** The setting `allow_link_local`. */
  readonly allowLinkLocal?: boolean | undefined;
}

/**
 * The address that a setting names. `setting` is what a message calls it. Error: BELFRY_CONFIG_INVALID; a password in
 * the address is not repeated in it.
 */
export function serviceAddress(text: string, setting: string, rules: AddressRules = {}): URL {
  const protocols = rules.protocols ?? ['http', 'https'];
  const refuse = (message: string, cause?: unknown) =>
    new BelfryError('BELFRY_CONFIG_INVALID', `${setting}: ${message}`, { field: setting, cause });
  let url: URL;
  try {
    url = new URL(text);
  } catch (error) {
    throw refuse(`expected an address as ${protocols[0]}://host:port, received ${shown(text)}`, error);
  }
  if (!protocols.includes(url.protocol.slice(0, -1)) || url.hostname === '')
    throw refuse(`expected ${protocols.map((one) => `${one}://`).join(' or ')}, received ${shown(text)}`);
  if (rules.allowLinkLocal !== true && (isLinkLocal(url.hostname) || METADATA_NAMES.test(url.hostname)))
    throw refuse(linkLocal(url.hostname));
  return url;
}

/**
 * For `connect: {lookup}` of an undici Pool or a socket: resolves as usual, and refuses a name that leads to a link-local
 * address at the moment of the connection, so that a name cannot change its mind after it was checked.
 */
export function guardedLookup(rules: Pick<AddressRules, 'allowLinkLocal'> = {}): LookupFunction {
  return (hostname, options, done) => {
    lookup(hostname, { ...options, all: true }, (error, found) => {
      if (error !== null) return done(error, []);
      const bad = rules.allowLinkLocal === true ? undefined : found.find(({ address }) => isLinkLocal(address));
      if (bad !== undefined)
        return done(
          new BelfryError('BELFRY_CONFIG_INVALID', `${hostname}: ${linkLocal(bad.address)}`, { field: hostname }),
          [],
        );
      if (options.all === true) return done(null, found);
      const [first] = found as [LookupAddress];
      done(null, first.address, first.family);
    });
  };
}

/** Whether an address literal is link-local or that of a metadata service. Names are no literals: false. */
export function isLinkLocal(host: string): boolean {
  return isIn(LINK_LOCAL, host);
}

/** Whether only programs on this machine reach what listens there. */
export function isLoopback(host: string): boolean {
  return host.toLowerCase() === 'localhost' || isIn(LOOPBACK, host);
}

function isIn(list: BlockList, host: string): boolean {
  const plain = host.replace(/^\[|\]$/g, '').replace(/%.*$/, '');
  if (isIP(plain) === 0) return false;
  if (isIPv4(plain)) return list.check(plain, 'ipv4');
  if (list.check(plain, 'ipv6')) return true;
  const mapped = mappedIPv4(plain);
  return mapped !== undefined && list.check(mapped, 'ipv4');
}

/** `::ffff:169.254.1.1` and `::ffff:a9fe:101` are IPv4 addresses in the clothes of IPv6. */
function mappedIPv4(address: string): string | undefined {
  const tail = /^(?:0*:)*:?(?:0*:)*ffff:(.+)$/i.exec(address)?.[1];
  if (tail === undefined || !isIPv6(address)) return undefined;
  if (isIPv4(tail)) return tail;
  const [high, low, more] = tail.split(':').map((part) => Number.parseInt(part, 16));
  if (high === undefined || low === undefined || more !== undefined) return undefined;
  return [high >> 8, high & 255, low >> 8, low & 255].join('.');
}

const linkLocal = (host: string) =>
  `${host} is a link-local address or that of a metadata service, which may hold credentials of this machine; set allow_link_local to call it all the same`;

/** Without what stands before an @: it may be a password. */
function shown(text: string): string {
  return JSON.stringify(text.slice(0, 200).replace(/\/\/[^/@]*@/, '//…@'));
}
