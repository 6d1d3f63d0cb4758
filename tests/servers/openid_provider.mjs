// A real, certified OpenID provider (npm oidc-provider) with accounts of the tests: whoever types a name is that person,
// in the groups that the file named by argv says. Prints `listening on URL`.
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const [modules, accounts] = process.argv.slice(2);
const { Provider } = await import(pathToFileURL(createRequire(`${modules}/`).resolve('oidc-provider')));

const server = createServer();
server.listen(0, '127.0.0.1', () => {
  const url = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(url, {
    clients: [{
      client_id: 'percall',
      client_secret: 'a secret of the tests, which is long enough',
      application_type: 'native',
      redirect_uris: ['http://127.0.0.1/callback', 'http://localhost/console/sign-in/back'],
    }],
    claims: { openid: ['sub'], email: ['email', 'email_verified'], groups: ['groups'] },
    scopes: ['openid', 'email', 'groups'],
    conformIdTokenClaims: false,
    findAccount: (_context, sub) => {
      const known = JSON.parse(readFileSync(accounts))[sub];
      return known && { accountId: sub, claims: () => ({ sub, email_verified: true, ...known }) };
    },
  });
  server.on('request', provider.callback());
  console.log(`listening on ${url}`);
});
