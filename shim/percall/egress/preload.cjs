'use strict';
// Loaded first into every Node process of the child (NODE_OPTIONS=--require): sends requests to listed origins to the
// shim's loopback listener, as http://127.0.0.1:PORT/SECRET/HOST/path. It knows no key, has no dependency, prints
// nothing but its own failure, and leaves npm, npx and their like alone, whose children inherit it all the same.
(() => {
  const listener = process.env.PERCALL_PRELOAD_LISTENER;
  if (!listener) return;
  const script = String(process.argv[1] || '').split(/[\\/]/).pop().replace(/\.[cm]?js$/, '');
  if (/^(npm|npx|pnpm|pnpx|yarn|yarnpkg|corepack)(-cli)?$/.test(script)) return;
  try {
    install(new URL(listener), (process.env.PERCALL_PRELOAD_HOSTS || '').split(' ').filter(Boolean));
  } catch (error) {
    process.stderr.write(`percall: the preload could not be set up: ${(error && error.stack) || error}\n`);
  }

  function install(base, hosts) {
    const http = require('node:http');
    const https = require('node:https');
    const originalRequest = http.request;
    const exact = new Set(hosts.filter((host) => !host.includes('*')));
    const suffixes = hosts.filter((host) => host.includes('*')).map((host) => {
      const [scheme, rest] = host.split('://*');
      return { scheme: `${scheme}:`, rest };
    });

    // The listener's path for an origin; null for an origin that is not listed.
    function prefix(url) {
      const listed = exact.has(`${url.protocol}//${url.host}`)
        || suffixes.some((suffix) => url.protocol === suffix.scheme && url.host.endsWith(suffix.rest));
      if (!listed) return null;
      return `${base.pathname}/${url.protocol === 'http:' ? 'http:' : ''}${url.host}`;
    }

    function parse(text) {
      try { return new URL(text); } catch { return null; }
    }

    // fetch, and every undici that uses the global dispatcher. Touching Response loads Node's own undici.
    void globalThis.Response;
    for (const symbol of [Symbol.for('undici.globalDispatcher.1'), Symbol.for('undici.globalDispatcher.2')]) {
      const dispatcher = globalThis[symbol];
      if (!dispatcher) continue;
      const dispatch = (options, handler) => {
        const url = options && parse(String(options.origin));
        const path = url && prefix(url);
        if (!path) return dispatcher.dispatch(options, handler);
        const rewritten = { ...options, origin: base.origin, path: `${path}${options.path || '/'}` };
        delete rewritten.servername;
        return dispatcher.dispatch(rewritten, handler);
      };
      globalThis[symbol] = new Proxy(dispatcher, {
        get(target, name) {
          if (name === 'dispatch') return dispatch;
          const value = Reflect.get(target, name, target);
          return typeof value === 'function' ? value.bind(target) : value;
        },
      });
    }

    // http and https, whatever library stands above them.
    function wrap(module, name, scheme) {
      const original = module[name];
      module[name] = function request(...args) {
        let url = null;
        let rest = args;
        if (typeof args[0] === 'string' || args[0] instanceof URL) {
          url = parse(String(args[0]));
          rest = args.slice(1);
        }
        const options = rest[0] && typeof rest[0] === 'object' ? rest[0] : {};
        const callback = rest.find((argument) => typeof argument === 'function');
        const target = options.socketPath ? null : destination(url, options, scheme);
        const path = target && prefix(target);
        if (!path) return Reflect.apply(original, this, args);
        // Whatever says how to connect is dropped: the listener is on loopback, in clear.
        const {
          agent, protocol, host, hostname, port, defaultPort, _defaultAgent, servername, createConnection, lookup,
          family, localAddress, ca, cert, key, pfx, rejectUnauthorized, checkServerIdentity, ALPNProtocols, session,
          href, origin, pathname, search, searchParams, hash, path: wanted, auth, ...kept
        } = options;
        const own = wanted || (url ? `${url.pathname}${url.search}` : pathname ? `${pathname}${search || ''}` : '/');
        const credentials = auth || (url && url.username
          ? `${decodeURIComponent(url.username)}:${decodeURIComponent(url.password)}` : undefined);
        const sent = originalRequest.call(http, {
          ...kept,
          ...(credentials ? { auth: credentials } : {}),
          protocol: 'http:',
          hostname: base.hostname,
          port: base.port,
          path: `${path}${own}`,
        }, callback);
        if (name === 'get') sent.end();
        return sent;
      };
    }

    function destination(url, options, scheme) {
      const protocol = options.protocol || (url ? url.protocol : scheme);
      let host = options.hostname || options.host || (url && url.hostname) || 'localhost';
      if (host.includes(':') && !host.startsWith('[')) {
        // Some write host:port in `host`; an IPv6 address has more colons.
        host = host.split(':').length > 2 ? `[${host}]` : host.split(':')[0];
      }
      const port = options.port || (url ? url.port : '') || options.defaultPort || '';
      return parse(`${protocol}//${host}${port ? `:${port}` : ''}`);
    }

    wrap(https, 'request', 'https:');
    wrap(https, 'get', 'https:');
    wrap(http, 'request', 'http:');
    wrap(http, 'get', 'http:');
    require('node:module').syncBuiltinESMExports();
  }
})();
