// A client that was generated from the document of the API lists the devices of a server: the types are the document's, the
// requests openapi-fetch's. Nothing here is written by hand but what is asked for.
import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

type Device = components["schemas"]["Device"];

const [server, token] = [process.env["FLEETI_SERVER"], process.env["FLEETI_TOKEN"]];
if (server === undefined || token === undefined) throw new Error("FLEETI_SERVER and FLEETI_TOKEN say where and as whom");

const client = createClient<paths>({ baseUrl: server, headers: { authorization: `Bearer ${token}` } });
const { data, error } = await client.GET("/api/v1/devices", { params: { query: { limit: 500 } } });
// The type of `error` is the one of a problem (RFC 9457).
if (error !== undefined) throw new Error(`${error.status}: ${error.detail}`);
const ids: string[] = data.map((device: Device) => `${device.id} ${device.fleet}`);
console.log(ids.join("\n"));

// What does not exist is a problem too, and its parameters are checked by the compiler.
const missing = await client.GET("/api/v1/devices/{device}", { params: { path: { device: "dev-nobody" } } });
console.log(missing.response.status, missing.error?.type);
