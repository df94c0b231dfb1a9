// An identity provider for tests: `oidc-provider` with three people who sign in without a password.
// Usage: node provider.mjs CLIENT_ID CLIENT_SECRET REDIRECT_URL. Writes its issuer, one line; ends
// with its standard input. `login_hint` of a request names the person.
import { createServer } from 'node:http';
import { Provider } from 'oidc-provider';

const [client_id, client_secret, redirect_url] = process.argv.slice(2);
const GROUPS = { alice: ['fleet-operators', 'staff'], bob: ['staff'], carol: undefined };

const server = createServer();
server.listen(0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    clients: [{ client_id, client_secret, redirect_uris: [redirect_url] }],
    scopes: ['openid', 'groups'],
    claims: { openid: ['sub'], groups: ['groups'] },
    conformIdTokenClaims: false,
    pkce: { required: () => true },
    features: { devInteractions: { enabled: false } },
    interactions: { url: (_, interaction) => `/person/${interaction.uid}` },
    findAccount: (_, id) =>
      Object.hasOwn(GROUPS, id) && {
        accountId: id,
        claims: () => ({ sub: id, ...(GROUPS[id] && { groups: GROUPS[id] }) }),
      },
    async loadExistingGrant({ oidc }) {
      const grant = new provider.Grant({
        clientId: oidc.client.clientId,
        accountId: oidc.session.accountId,
      });
      grant.addOIDCScope('openid groups');
      await grant.save();
      return grant;
    },
  });
  const answer = provider.callback();
  server.on('request', async (request, response) => {
    if (!request.url.startsWith('/person/')) return answer(request, response);
    const { params } = await provider.interactionDetails(request, response);
    await provider.interactionFinished(request, response, {
      login: { accountId: params.login_hint },
    });
  });
  console.log(issuer);
});
process.stdin.resume().on('end', () => process.exit());
