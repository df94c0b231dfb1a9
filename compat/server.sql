BEGIN TRANSACTION;
CREATE TABLE _sqlx_migrations (
    version BIGINT PRIMARY KEY,
    description TEXT NOT NULL,
    installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    success BOOLEAN NOT NULL,
    checksum BLOB NOT NULL,
    execution_time BIGINT NOT NULL
);
INSERT INTO "_sqlx_migrations" VALUES(1,'start','2026-11-30 17:05:52',1,X'123501A2C0AA6B5D9E145C993C33549FCA0F8D874776855D5BC70AB39DF7A72B3AB4CA6F9E5E4B4C68F961680560C52E',10851397);
INSERT INTO "_sqlx_migrations" VALUES(2,'withdrawals','2026-11-30 17:05:52',1,X'673C5F2A9C97998CB937E69C50CE20C0EF7866BD4D4BA897A96C466464B05C904DAB02A3FC46D4BD3E802FF54C37A334',99293964);
INSERT INTO "_sqlx_migrations" VALUES(3,'made of','2026-11-30 17:05:52',1,X'138092B42817B6895CA0BCBA7EB747D06EFFBB706E1AE9855E3BE416015E6A55C0615C19A0EABEA4B9612FFCE795C876',3589127);
INSERT INTO "_sqlx_migrations" VALUES(4,'changes of secrets','2026-11-30 17:05:52',1,X'B8A82D2E7075F23A57E362D6F47D7491A8F8D0816DA8844B025106925DC1E244FD006020863B45FDE24BF3A2EF4612B0',959081);
INSERT INTO "_sqlx_migrations" VALUES(5,'waves','2026-11-30 17:05:52',1,X'651C8BC78AC913BA0E8BD5B69E768130B1FAFC5B0B16495B81B24D3B5CE97FA7760203EF2ED22ADDFD0974AF0FD683EF',11922594);
INSERT INTO "_sqlx_migrations" VALUES(6,'accounts','2026-11-30 17:05:52',1,X'1AB371A917EEF92C1EF92B3C0B17E207795E10320B499AF518FF43956E6D64E5B3C30029168BB72878523EF69D0859A3',1723564);
INSERT INTO "_sqlx_migrations" VALUES(7,'labels','2026-11-30 17:05:52',1,X'2BA1304CE996FC743E1B3F6E3E0C730955AC271F8058787C8FA4328B4A7D9F396991008228A0B55B58B108507FB2F158',10203397);
INSERT INTO "_sqlx_migrations" VALUES(8,'channels','2026-11-30 17:05:52',1,X'720CD26AE08A067323F0EEFB404C7216ACCCA5A239B2882E77AD46130C0F71CDC9B25F9125EF7FC871028A4C1A17CCD0',8839627);
INSERT INTO "_sqlx_migrations" VALUES(9,'forecast','2026-11-30 17:05:52',1,X'70DB50722617DD60009040A014AEE6927A791B2703A90976FF966F553384AA83E3777413C41BAB87365408A7762CD49B',4023501);
INSERT INTO "_sqlx_migrations" VALUES(10,'alerts','2026-11-30 17:05:52',1,X'8EE761FB9C3B45A06DDA1932A0FE95513789E7456B3377BEEBBBC4E7ED32BDF955754BB58C2C1E37167686252D2EB2A6',7953765);
INSERT INTO "_sqlx_migrations" VALUES(11,'packages','2026-11-30 17:05:52',1,X'57FC77F50F7C16FEFAC60AC3BAB47C18B21EF9CCB0277B55E7F3F80F0988C6B09274F1AD7E0C8C0CDDB6175F8FD63847',1240788);
INSERT INTO "_sqlx_migrations" VALUES(12,'commands','2026-11-30 17:05:52',1,X'F3F54E2B578E356C7084996D96DB59A096293BBA843172BE93433569BF440F88A09C924D0E13ABDF29D06636DD829BCE',319492269);
INSERT INTO "_sqlx_migrations" VALUES(13,'windows','2026-11-30 17:05:52',1,X'BA0C2B158073FC37427424F8308C4D7CF1EE1DE399F3DD90585459F6E75724E2A2FBACB3B4D244C098EEE296A4FB9DE6',121240720);
INSERT INTO "_sqlx_migrations" VALUES(14,'ways and budgets','2026-11-30 17:05:53',1,X'340E6E8FAFCC4C2C6CFD601F2D90E63021DD93E80B888EF284C1DE975F431612CD5D30D77321134F1BB70CE49985DEF7',319873835);
INSERT INTO "_sqlx_migrations" VALUES(15,'second person','2026-11-30 17:05:53',1,X'C70A26DCF3F80D132C073E31C880804132C93FB43E4BC348CA7E45077133B03BD4616A18C5CADE2061E08108BDA3992E',47816494);
INSERT INTO "_sqlx_migrations" VALUES(19,'going back','2026-11-30 17:05:53',1,X'B600DB779D5175234150591C1BFCADB586D71F51BBCE64CFF5614E98BEEB07BB981EF85502777039A9F20D3E5656F2A4',276638678);
CREATE TABLE account_changes (
    account TEXT NOT NULL,
    changed_by TEXT NOT NULL,
    changed_s BIGINT NOT NULL,
    PRIMARY KEY (account, changed_by)
) WITHOUT ROWID;
INSERT INTO "account_changes" VALUES('alice','bootstrap',1796058598);
INSERT INTO "account_changes" VALUES('robot','bootstrap',1796058598);
CREATE TABLE accounts (
    name TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    created_s BIGINT NOT NULL,
    disabled_s BIGINT,
    password TEXT,
    grants TEXT NOT NULL,
    seal TEXT NOT NULL
);
INSERT INTO "accounts" VALUES('bootstrap','service',1796058369,NULL,'admin.token e754045ac1cc4165c9efc7cd15c66912069fa7ecb789d39a2bcc9d867a0fca44','[{"role":"admin"}]','09ec28434266818083b0422c8639de9ee923c09a1b2116b38dd6e02d5d2dae77');
INSERT INTO "accounts" VALUES('alice','person',1796058598,NULL,NULL,'[{"role":"operator","fleet":"old"}]','9c85afffe94bd7fe405c63ac1114c0128470482d7e1317f5a35c43d3628fc068');
INSERT INTO "accounts" VALUES('robot','service',1796058598,NULL,NULL,'[{"role":"viewer"}]','63a08d027b7cf691b064b54620642ffa58f9d512a742f5122530a6430dddaba7');
CREATE TABLE alert_changes (
    number INTEGER PRIMARY KEY,
    alert TEXT NOT NULL,
    at_s BIGINT NOT NULL,
    state TEXT NOT NULL,
    actor TEXT NOT NULL,
    note TEXT NOT NULL
);
CREATE TABLE alert_groups (
    rule TEXT NOT NULL,
    fleet TEXT NOT NULL,
    raised BIGINT NOT NULL,
    resolved BIGINT NOT NULL,
    due_s BIGINT,
    sent_s BIGINT NOT NULL,
    PRIMARY KEY (rule, fleet)
) WITHOUT ROWID;
CREATE TABLE alert_rules (
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    threshold BIGINT NOT NULL,
    severity TEXT NOT NULL,
    fleets TEXT NOT NULL,
    enabled BIGINT NOT NULL
);
INSERT INTO "alert_rules" VALUES('disk','disk',80,'critical','[]',1);
CREATE TABLE alert_silences (
    id TEXT PRIMARY KEY,
    rule TEXT,
    fleet TEXT,
    device TEXT,
    from_s BIGINT NOT NULL,
    until_s BIGINT NOT NULL,
    reason TEXT NOT NULL,
    actor TEXT NOT NULL
);
INSERT INTO "alert_silences" VALUES('silence-01m8ppykb47jwz2fw2shemxwqr',NULL,'old',NULL,1796058598,1796065798,'moving','bootstrap');
CREATE TABLE alert_sweep (
    name TEXT PRIMARY KEY,
    reached TEXT NOT NULL
);
CREATE TABLE alerts (
    id TEXT PRIMARY KEY,
    rule TEXT NOT NULL,
    kind TEXT NOT NULL,
    severity TEXT NOT NULL,
    device TEXT NOT NULL,
    fleet TEXT NOT NULL,
    state TEXT NOT NULL,
    since_s BIGINT NOT NULL,
    changed_s BIGINT NOT NULL,
    times BIGINT NOT NULL,
    silenced_until_s BIGINT,
    level BIGINT,
    detail TEXT NOT NULL
);
CREATE TABLE api_tokens (
    id TEXT PRIMARY KEY,
    token_sha256 TEXT NOT NULL UNIQUE,
    account TEXT NOT NULL REFERENCES accounts (name),
    label TEXT NOT NULL,
    permissions TEXT,
    created_s BIGINT NOT NULL,
    expires_s BIGINT NOT NULL,
    used_s BIGINT,
    seal TEXT NOT NULL
);
INSERT INTO "api_tokens" VALUES('tok-01m8ppyk1ymx0j9bs4y0jpe7w1','d53ca589d4921f624bbf3018e14bc8678c7c77403f9d0eadb790791e0e515c83','robot','ci','["view"]',1796058598,1803834598,NULL,'8c26659c833ce825a96012c27c51a626b2a740d466625596d3a33049d414fff5');
CREATE TABLE approval_policy (
    one BIGINT PRIMARY KEY,
    policy TEXT NOT NULL,
    seal TEXT NOT NULL
);
CREATE TABLE attestation_policies (
    fleet TEXT PRIMARY KEY,
    policy TEXT NOT NULL
, windows TEXT);
INSERT INTO "attestation_policies" VALUES('old','{"update":"token","success":"token","secrets":"verified_boot","firmware":{"mode":"pinned"},"proved_releases":false}',NULL);
CREATE TABLE attestations (
    device TEXT PRIMARY KEY REFERENCES devices (id),
    level BIGINT NOT NULL,
    appraised_s BIGINT NOT NULL,
    release_name TEXT,
    update_level BIGINT NOT NULL,
    firmware_code TEXT,
    accepted TEXT,
    nonce TEXT NOT NULL,
    result TEXT NOT NULL,
    evidence TEXT NOT NULL
);
CREATE TABLE audit_outbox (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    at_s BIGINT NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL
);
CREATE TABLE boot_keys (
    device TEXT PRIMARY KEY,
    created_s BIGINT NOT NULL,
    wrapped TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    expected TEXT NOT NULL,
    loader_release TEXT,
    change_number BIGINT NOT NULL DEFAULT 0,
    change_writes TEXT NOT NULL DEFAULT '[]',
    may_end_fallback BIGINT NOT NULL DEFAULT 0
);
CREATE TABLE boot_signatures (
    device TEXT NOT NULL,
    release_name TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    binaries TEXT NOT NULL,
    PRIMARY KEY (device, release_name)
);
CREATE TABLE builds (
    id TEXT PRIMARY KEY,
    release_name TEXT NOT NULL,
    revision BIGINT NOT NULL,
    created_s BIGINT NOT NULL,
    phase TEXT NOT NULL,
    lease_until_s BIGINT NOT NULL,
    request TEXT NOT NULL,
    detail TEXT NOT NULL,
    directory TEXT,
    signing TEXT,
    signing_detail TEXT NOT NULL DEFAULT '',
    attempts BIGINT NOT NULL DEFAULT 0,
    signing_attempts BIGINT NOT NULL DEFAULT 0,
    has_files BIGINT NOT NULL DEFAULT 1,
    worker TEXT NOT NULL DEFAULT '',
    lease TEXT NOT NULL DEFAULT ''
);
INSERT INTO "builds" VALUES('build-01m8ppyrf6b3d01qyqzemy435j','kiosk@9',1,1796058604,'queued',0,'{"profile":{"schema":1,"name":"kiosk","description":"One program, full screen","architecture":"x86_64","identity":{"hostname":"kiosk-{id}","locale":"C.UTF-8","time_zone":"Etc/UTC","keyboard":"us"},"users":[{"name":"kiosk","comment":"Runs the program on the screen","groups":["video"],"shell":"/bin/bash"}],"software":{"packages":["jq"]},"services":[{"name":"kiosk.service","state":"enabled","unit":"[Unit]\nDescription=The program on the screen\nAfter=multi-user.target\n\n[Service]\nUser=kiosk\nExecStart=/usr/bin/sleep infinity\nRestart=always\n\n[Install]\nWantedBy=multi-user.target\n"},{"name":"kiosk-greeting.service","state":"enabled","unit":"[Unit]\nDescription=Shows the digest of the fleet''s greeting, which is secret\nPartOf=fleeti-secrets.target\nAfter=fleeti-secrets.target\nConditionPathExists=/run/fleeti-secrets/greeting\n\n[Service]\nType=oneshot\nLoadCredential=greeting:/run/fleeti-secrets/greeting\nExecStart=/usr/bin/sha256sum %d/greeting\nStandardOutput=tty\nTTYPath=/dev/console\n\n[Install]\nWantedBy=fleeti-secrets.target\n"}],"files":[{"path":"/etc/motd","content":"This is a kiosk. Its system is read-only and verified.\n","mode":"0644"}],"kernel":{"flavour":"cloud","arguments":["quiet"]},"health_checks":[{"name":"the kiosk program is installed","command":["/usr/bin/jq","--version"],"timeout_s":30}]},"version":"9"}','waits for a worker',NULL,NULL,'',0,0,1,'','');
CREATE TABLE channels (
    fleet TEXT PRIMARY KEY,
    release_name TEXT,
    rollout TEXT,
    since_s BIGINT NOT NULL,
    pinned TEXT,
    pin_reason TEXT
);
INSERT INTO "channels" VALUES('demo','kiosk@2','rollout-01m8ppqr9rknqmt0aq5xax1dnm',1796058379,NULL,NULL);
INSERT INTO "channels" VALUES('old','kiosk@3','rollout-01m8ppymfdepjhs23r7mdpwcsz',1796058600,NULL,NULL);
CREATE TABLE command_results (
    command TEXT PRIMARY KEY,
    device TEXT NOT NULL,
    at_s BIGINT NOT NULL,
    result BLOB NOT NULL
);
CREATE TABLE commands (
    id TEXT PRIMARY KEY,
    device TEXT NOT NULL,
    created_s BIGINT NOT NULL,
    deadline_s BIGINT NOT NULL,
    kind TEXT NOT NULL,
    status TEXT NOT NULL
, detail TEXT NOT NULL DEFAULT '', changed_s BIGINT NOT NULL DEFAULT 0, sent_by TEXT NOT NULL DEFAULT '', result_bytes BIGINT);
INSERT INTO "commands" VALUES('cmd-01m8ppyq6sf81xm0sn24hbfggn','dev-01m8ppvaffdwe6nf9z4qeb11qd',1796058602,1796062202,'{"type":"report"}','done','',1796058604,'bootstrap',NULL);
INSERT INTO "commands" VALUES('cmd-01m8ppyqarasht5qchbh9zemqg','dev-01m8ppvaffdwe6nf9z4qeb11qd',1796058602,1796062202,'{"type":"rotate_key"}','done','the device has a new key',1796058604,'bootstrap',NULL);
INSERT INTO "commands" VALUES('cmd-01m8ppyqba1hndedqmv677xmg7','dev-01m8ppvaffdwe6nf9z4qeb11qd',1796058602,1796062202,'{"type":"logs"}','failed','the log of this boot has no line of any unit',1796058604,'bootstrap',NULL);
CREATE TABLE counters (
    name TEXT PRIMARY KEY,
    value BIGINT NOT NULL
);
CREATE TABLE device_keys (
    key_prefix BIGINT NOT NULL UNIQUE,
    key_sha256 TEXT NOT NULL,
    device TEXT NOT NULL REFERENCES devices (id) DEFERRABLE INITIALLY DEFERRED
);
INSERT INTO "device_keys" VALUES(-7125329840916553382,'9d1dbe42e4ada15ab2f30073e097fbdacf15b7d5be2fd38ec8819a1fdc61bbad','dev-01m8ppqpyb0jcxca835m50n36v');
INSERT INTO "device_keys" VALUES(-7974830114818674632,'9153b6435625303824ca224292ddb4c82ad2a174fabbbc3818f72717a9e1f029','dev-01m8ppvaffdwe6nf9z4qeb11qd');
INSERT INTO "device_keys" VALUES(7676432210353337380,'6a882a6c807a3424cad41589e30772f33e9833eedd216f5002b4e8eb50debafd','dev-01m8ppvaffdwe6nf9z4qeb11qd');
CREATE TABLE device_labels (
    label_key TEXT NOT NULL REFERENCES label_keys (label_key),
    device TEXT NOT NULL REFERENCES devices (id),
    value TEXT NOT NULL,
    number BIGINT,
    PRIMARY KEY (label_key, device)
) WITHOUT ROWID;
INSERT INTO "device_labels" VALUES('site','dev-01m8ppvaffdwe6nf9z4qeb11qd','berlin',NULL);
CREATE TABLE device_metrics (
    device TEXT NOT NULL,
    at_s BIGINT NOT NULL,
    span_s BIGINT NOT NULL,
    samples BIGINT NOT NULL,
    load_sum BIGINT NOT NULL,
    load_max BIGINT NOT NULL,
    memory_sum BIGINT NOT NULL,
    memory_max BIGINT NOT NULL,
    disk_sum BIGINT NOT NULL,
    disk_max BIGINT NOT NULL,
    points TEXT NOT NULL,
    PRIMARY KEY (device, span_s, at_s)
);
INSERT INTO "device_metrics" VALUES('dev-01m8ppqpyb0jcxca835m50n36v',1796058000,3600,3,15380,5380,30,10,0,0,'1796058374,5380,10,0;1796058379,5370,10,0;1796058438,4630,10,0;');
INSERT INTO "device_metrics" VALUES('dev-01m8ppvaffdwe6nf9z4qeb11qd',1796058000,3600,4,32000,8500,35,9,0,0,'1796058493,7590,9,0;1796058552,7410,8,0;1796058600,8500,9,0;1796058604,8500,9,0;');
CREATE TABLE device_releases (
    device TEXT NOT NULL REFERENCES devices (id),
    release_name TEXT NOT NULL,
    PRIMARY KEY (device, release_name)
) WITHOUT ROWID;
CREATE TABLE device_states (
    device TEXT NOT NULL,
    at_s BIGINT NOT NULL,
    fleet TEXT NOT NULL,
    running TEXT NOT NULL,
    boot_id TEXT NOT NULL,
    level BIGINT NOT NULL,
    PRIMARY KEY (device, at_s)
) WITHOUT ROWID;
INSERT INTO "device_states" VALUES('dev-01m8ppqpyb0jcxca835m50n36v',1796058374,'demo','kiosk@1','boot-1',1);
INSERT INTO "device_states" VALUES('dev-01m8ppqpyb0jcxca835m50n36v',1796058379,'demo','kiosk@2','boot-2',1);
INSERT INTO "device_states" VALUES('dev-01m8ppvaffdwe6nf9z4qeb11qd',1796058493,'old','kiosk@1','boot-1',1);
INSERT INTO "device_states" VALUES('dev-01m8ppvaffdwe6nf9z4qeb11qd',1796058600,'old','kiosk@3','boot-2',1);
INSERT INTO "device_states" VALUES('dev-01m8ppvaffdwe6nf9z4qeb11qd',1796058604,'old','kiosk@3','boot-3',1);
CREATE TABLE device_tpms (
    device TEXT PRIMARY KEY REFERENCES devices (id),
    ek_sha256 TEXT NOT NULL UNIQUE,
    endorsement_key TEXT NOT NULL,
    attestation_key TEXT NOT NULL UNIQUE,
    manufacturer TEXT,
    description TEXT NOT NULL,
    bound_s BIGINT NOT NULL,
    certificates BLOB NOT NULL DEFAULT x'',
    judged_by TEXT NOT NULL DEFAULT ''
);
CREATE TABLE devices (
    id TEXT PRIMARY KEY,
    fleet TEXT NOT NULL,
    created_s BIGINT NOT NULL,
    last_seen_s BIGINT NOT NULL,
    key_sha256 TEXT NOT NULL,
    serial TEXT NOT NULL,
    certificate_sha256 TEXT NOT NULL,
    certificate_not_after_s BIGINT NOT NULL,
    revoked_s BIGINT,
    report_sequence BIGINT NOT NULL DEFAULT 0,
    boot TEXT,
    update_state TEXT,
    progress TEXT,
    telemetry TEXT,
    desired_generation BIGINT NOT NULL DEFAULT 0,
    desired_release TEXT,
    forgiven TEXT,
    forgiveness BIGINT NOT NULL DEFAULT 0,
    update_kind TEXT NOT NULL DEFAULT 'idle',
    next_key_sha256 TEXT,
    revocation_reason TEXT,
    boot_change BIGINT,
    trust_bundle BIGINT NOT NULL DEFAULT 0,
    alarm TEXT,
    is_in_tpm BIGINT NOT NULL DEFAULT 0,
    next_is_in_tpm BIGINT NOT NULL DEFAULT 0,
    attestation_failure TEXT,
    running TEXT,
    came_with TEXT,
    successors BIGINT NOT NULL DEFAULT 0,
    successor_s BIGINT NOT NULL DEFAULT 0,
    clone_alarm TEXT,
    mqtt_until_s BIGINT NOT NULL DEFAULT 0,
    mqtt_subscriptions BIGINT NOT NULL DEFAULT 0,
    report_epoch TEXT,
    report_refused TEXT
, name TEXT, name_key TEXT, note TEXT, version_key TEXT, seen_step BIGINT NOT NULL DEFAULT 0, replaced_by TEXT, hold_reason TEXT, hold_until_s BIGINT, pin TEXT, pin_reason TEXT, penalty_version TEXT, penalty_failures BIGINT NOT NULL DEFAULT 0, penalty_until_s BIGINT, watch_s BIGINT NOT NULL DEFAULT 0, drift_since_s BIGINT, skip_windows_until_s BIGINT, waits TEXT, time_zone TEXT, desired_back BIGINT NOT NULL DEFAULT 0);
INSERT INTO "devices" VALUES('dev-01m8ppqpyb0jcxca835m50n36v','demo',1796058373,1796058438,'9d1dbe42e4ada15ab2f30073e097fbdacf15b7d5be2fd38ec8819a1fdc61bbad','667dc905983623e0aa42ab57a530af5b','330e886f45e7b05cf210d70c018600acfffac0f95106738e291a367b52a2f3b5',1798650373,NULL,7,'{"boot_id":"boot-2","running":"kiosk@2","slot":"b","verity":"verified","secure_boot":true,"pcr11":null,"firmware":{"setup_mode":false,"pk":null,"kek":[],"db":[],"dbx":[],"change":0},"sealed_data":true}','{"type":"idle"}',NULL,'{"uptime_s":46527,"load_milli":4630,"memory_used_kib":2571100,"memory_total_kib":24683652,"agent_memory_kib":51884,"data_used_kib":0,"data_total_kib":0}',1,'kiosk@2',NULL,0,'idle',NULL,NULL,NULL,0,NULL,0,0,NULL,'kiosk@2','kiosk@1',0,0,NULL,1796663173,682,'28d1b165c77099b0',NULL,NULL,NULL,NULL,'a2',1995620,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,1796062087,NULL,NULL,NULL,'Etc/UTC',0);
INSERT INTO "devices" VALUES('dev-01m8ppvaffdwe6nf9z4qeb11qd','old',1796058491,1796058604,'6a882a6c807a3424cad41589e30772f33e9833eedd216f5002b4e8eb50debafd','7fd663e28e80c5e5ea89483bee47cc72','43cccf20a33a92421eaef92459d95541a7dac8bdb2264a53b350bb3f1760dcdf',1798650603,NULL,12,'{"boot_id":"boot-3","running":"kiosk@3","slot":"b","verity":"verified","secure_boot":true,"pcr11":null,"firmware":{"setup_mode":false,"pk":null,"kek":[],"db":[],"dbx":[],"change":0},"sealed_data":true}','{"type":"idle"}',NULL,'{"uptime_s":46692,"load_milli":8500,"memory_used_kib":2395900,"memory_total_kib":24683652,"agent_memory_kib":32420,"data_used_kib":0,"data_total_kib":0}',3,'kiosk@3',NULL,0,'idle',NULL,NULL,NULL,0,NULL,0,0,NULL,'kiosk@3','kiosk@1',1,1796058603,NULL,1796663293,682,'211c2bf9773ff7ee',NULL,'desk-1','desk-1','moved','a3',1995620,NULL,'because',NULL,'kiosk@3','because',NULL,0,NULL,1796062202,NULL,NULL,NULL,'Etc/UTC',0);
CREATE TABLE domain_events (
    number INTEGER PRIMARY KEY,
    at_s BIGINT NOT NULL,
    kind TEXT NOT NULL,
    body TEXT NOT NULL
);
INSERT INTO "domain_events" VALUES(1,1796058374,'device.reported','{"device":"dev-01m8ppqpyb0jcxca835m50n36v","fleet":"demo","running":"kiosk@1","update":{"type":"idle"}}');
INSERT INTO "domain_events" VALUES(2,1796058374,'device.reported','{"device":"dev-01m8ppqpyb0jcxca835m50n36v","fleet":"demo","running":"kiosk@1","update":{"attempt":1,"target":"2","type":"staging"}}');
INSERT INTO "domain_events" VALUES(3,1796058378,'device.reported','{"device":"dev-01m8ppqpyb0jcxca835m50n36v","fleet":"demo","running":"kiosk@1","update":{"arm_attempts":0,"target":"2","type":"staged"}}');
INSERT INTO "domain_events" VALUES(4,1796058378,'device.reported','{"device":"dev-01m8ppqpyb0jcxca835m50n36v","fleet":"demo","running":"kiosk@1","update":{"target":"2","type":"armed"}}');
INSERT INTO "domain_events" VALUES(5,1796058379,'device.reported','{"device":"dev-01m8ppqpyb0jcxca835m50n36v","fleet":"demo","running":"kiosk@2","update":{"type":"idle"}}');
INSERT INTO "domain_events" VALUES(6,1796058379,'rollout.finished','{"fleet":"demo","phase":"succeeded","release":"kiosk@2","rollout":"rollout-01m8ppqr9rknqmt0aq5xax1dnm"}');
INSERT INTO "domain_events" VALUES(7,1796058379,'device.reported','{"device":"dev-01m8ppqpyb0jcxca835m50n36v","fleet":"demo","running":"kiosk@2","update":{"type":"idle"}}');
INSERT INTO "domain_events" VALUES(8,1796058493,'device.reported','{"device":"dev-01m8ppvaffdwe6nf9z4qeb11qd","fleet":"old","running":"kiosk@1","update":{"type":"idle"}}');
INSERT INTO "domain_events" VALUES(9,1796058598,'device.reported','{"device":"dev-01m8ppvaffdwe6nf9z4qeb11qd","fleet":"old","running":"kiosk@1","update":{"type":"idle"}}');
INSERT INTO "domain_events" VALUES(10,1796058599,'device.reported','{"device":"dev-01m8ppvaffdwe6nf9z4qeb11qd","fleet":"old","running":"kiosk@1","update":{"type":"idle"}}');
INSERT INTO "domain_events" VALUES(11,1796058599,'device.reported','{"device":"dev-01m8ppvaffdwe6nf9z4qeb11qd","fleet":"old","running":"kiosk@1","update":{"attempt":1,"target":"3","type":"staging"}}');
INSERT INTO "domain_events" VALUES(12,1796058600,'device.reported','{"device":"dev-01m8ppvaffdwe6nf9z4qeb11qd","fleet":"old","running":"kiosk@1","update":{"arm_attempts":0,"target":"3","type":"staged"}}');
INSERT INTO "domain_events" VALUES(13,1796058600,'device.reported','{"device":"dev-01m8ppvaffdwe6nf9z4qeb11qd","fleet":"old","running":"kiosk@1","update":{"target":"3","type":"armed"}}');
INSERT INTO "domain_events" VALUES(14,1796058600,'device.reported','{"device":"dev-01m8ppvaffdwe6nf9z4qeb11qd","fleet":"old","running":"kiosk@3","update":{"type":"idle"}}');
INSERT INTO "domain_events" VALUES(15,1796058600,'rollout.finished','{"fleet":"old","phase":"succeeded","release":"kiosk@3","rollout":"rollout-01m8ppymfdepjhs23r7mdpwcsz"}');
INSERT INTO "domain_events" VALUES(16,1796058600,'device.reported','{"device":"dev-01m8ppvaffdwe6nf9z4qeb11qd","fleet":"old","running":"kiosk@3","update":{"type":"idle"}}');
INSERT INTO "domain_events" VALUES(17,1796058603,'device.reported','{"device":"dev-01m8ppvaffdwe6nf9z4qeb11qd","fleet":"old","running":"kiosk@3","update":{"type":"idle"}}');
INSERT INTO "domain_events" VALUES(18,1796058604,'device.reported','{"device":"dev-01m8ppvaffdwe6nf9z4qeb11qd","fleet":"old","running":"kiosk@3","update":{"type":"idle"}}');
CREATE TABLE enrollments (
    token_sha256 TEXT PRIMARY KEY,
    fleet TEXT NOT NULL,
    expires_s BIGINT NOT NULL,
    device TEXT,
    key_sha256 TEXT,
    reserved TEXT,
    ek_sha256 TEXT,
    for_key_sha256 TEXT
, account TEXT);
INSERT INTO "enrollments" VALUES('e7eb8b86bceab3ed27f19269a32a33b5f731ee963c8f76c5cebf34170a8f2dfa','demo',1796061972,'dev-01m8ppqpyb0jcxca835m50n36v','9d1dbe42e4ada15ab2f30073e097fbdacf15b7d5be2fd38ec8819a1fdc61bbad',NULL,NULL,NULL,'bootstrap');
INSERT INTO "enrollments" VALUES('af6676de761e01c935f14c8bcbad4862fbf7613f6032431d7a0236050ece5587','old',1796062090,'dev-01m8ppvaffdwe6nf9z4qeb11qd','9153b6435625303824ca224292ddb4c82ad2a174fabbbc3818f72717a9e1f029',NULL,NULL,NULL,'bootstrap');
CREATE TABLE evidence_logs (
    device TEXT NOT NULL REFERENCES devices (id),
    sha256 TEXT NOT NULL,
    bytes BLOB NOT NULL,
    received_s BIGINT NOT NULL,
    PRIMARY KEY (device, sha256)
);
CREATE TABLE fleet_secret_versions (
    fleet TEXT PRIMARY KEY,
    version BIGINT NOT NULL
);
CREATE TABLE fleet_secrets (
    fleet TEXT NOT NULL,
    name TEXT NOT NULL,
    wrapped TEXT NOT NULL,
    changed_s BIGINT NOT NULL, version BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (fleet, name)
);
CREATE TABLE issued (
    device TEXT NOT NULL REFERENCES devices (id) DEFERRABLE INITIALLY DEFERRED,
    not_after_s BIGINT NOT NULL,
    serial TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    issuer TEXT NOT NULL DEFAULT '',
    pem TEXT NOT NULL,
    key_sha256 TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (device, not_after_s, serial)
);
INSERT INTO "issued" VALUES('dev-01m8ppqpyb0jcxca835m50n36v',1798650373,'667dc905983623e0aa42ab57a530af5b','330e886f45e7b05cf210d70c018600acfffac0f95106738e291a367b52a2f3b5','08f19e6b68e663b32abeb93ac12e41a98bd1fa273bae71ec0fddefaa00bd87ee','-----BEGIN CERTIFICATE-----
MIIChTCCAgqgAwIBAgIQZn3JBZg2I+CqQqtXpTCvWzAKBggqhkjOPQQDAzAzMTEw
LwYDVQQDDChGbGVldGkgZGV2aWNlIGF1dGhvcml0eSAzMDk5ZjRmNGY0M2Y0ODAz
MB4XDTI2MTEzMDE2MDYxM1oXDTI2MTIzMDE3MDYxM1owKTEnMCUGA1UEAwweZGV2
LTAxbThwcHFweWIwamN4Y2E4MzVtNTBuMzZ2MFkwEwYHKoZIzj0CAQYIKoZIzj0D
AQcDQgAEaD25x8IQGHo1XJlZG8qLndaWWZcDuajZJbqkawN3hhz2aMfEmTSG6Oop
XwKphEgIP+eNcDDxnrtc9AKq05dxS6OCAQgwggEEMAwGA1UdEwEB/wQCMAAwDgYD
VR0PAQH/BAQDAgeAMBMGA1UdJQQMMAoGCCsGAQUFBwMCMB0GA1UdDgQWBBSJEFn3
1On00Wl0k9uRqzANrqz8GTAfBgNVHSMEGDAWgBQajyIzJQmPbC4aHWpCNfkhHKgF
MTA7BgNVHREENDAyhjB1cm46ZmxlZXRpOmRldmljZTpkZXYtMDFtOHBwcXB5YjBq
Y3hjYTgzNW01MG4zNnYwQQYDVR0fBDowODA2oDSgMoYwaHR0cHM6Ly9sb2NhbGhv
c3Q6NDAyODEvcGtpLzMwOTlmNGY0ZjQzZjQ4MDMuY3JsMA8GCCsGAQOEo1wBBAMK
AQAwCgYIKoZIzj0EAwMDaQAwZgIxAKKFVJRDIGjSccHvZQmjNn0XxnoXnmJ2/c6f
qUTGTzkmRxD6ZztVd99DQnlYwHXePwIxANfJhXdnGKHf8KtFqepfFDUdH0x9dG3k
s8vy7vEd/Te6/alH8e2jDhnu9ZpwNR/Zfg==
-----END CERTIFICATE-----
','9d1dbe42e4ada15ab2f30073e097fbdacf15b7d5be2fd38ec8819a1fdc61bbad');
INSERT INTO "issued" VALUES('dev-01m8ppvaffdwe6nf9z4qeb11qd',1798650491,'7046c07a00b8babd9a73a9026160b919','4271ed5d8c6a35514ab54454d2b08f3e7549d968963550ec69860e908b07687a','08f19e6b68e663b32abeb93ac12e41a98bd1fa273bae71ec0fddefaa00bd87ee','-----BEGIN CERTIFICATE-----
MIIChDCCAgqgAwIBAgIQcEbAegC4ur2ac6kCYWC5GTAKBggqhkjOPQQDAzAzMTEw
LwYDVQQDDChGbGVldGkgZGV2aWNlIGF1dGhvcml0eSAzMDk5ZjRmNGY0M2Y0ODAz
MB4XDTI2MTEzMDE2MDgxMVoXDTI2MTIzMDE3MDgxMVowKTEnMCUGA1UEAwweZGV2
LTAxbThwcHZhZmZkd2U2bmY5ejRxZWIxMXFkMFkwEwYHKoZIzj0CAQYIKoZIzj0D
AQcDQgAEXKDK1SRo3qxBnhYhv0jSA5zxNNVBVaJkS6V38C1BeHh4u0g8SoWh9bOW
TVbMmq0TwPdgu6coB1DW6cmD3mu7KaOCAQgwggEEMAwGA1UdEwEB/wQCMAAwDgYD
VR0PAQH/BAQDAgeAMBMGA1UdJQQMMAoGCCsGAQUFBwMCMB0GA1UdDgQWBBRtFTsP
byKg6kmgkRz/p+3hiJKc8jAfBgNVHSMEGDAWgBQajyIzJQmPbC4aHWpCNfkhHKgF
MTA7BgNVHREENDAyhjB1cm46ZmxlZXRpOmRldmljZTpkZXYtMDFtOHBwdmFmZmR3
ZTZuZjl6NHFlYjExcWQwQQYDVR0fBDowODA2oDSgMoYwaHR0cHM6Ly9sb2NhbGhv
c3Q6MzgxNDMvcGtpLzMwOTlmNGY0ZjQzZjQ4MDMuY3JsMA8GCCsGAQOEo1wBBAMK
AQAwCgYIKoZIzj0EAwMDaAAwZQIxAIj1BevrreUe8L0Fv9P8pTGHpcZIs5uvmK+w
7iQqA2VKbKv1HxrCVfbM8fPpCbGG5wIwcct6FEm8+24NIsyEXEzTwpYwQVZspW4u
QkCvSea0J8KTiYXVE4uTD8msaPykbU32
-----END CERTIFICATE-----
','9153b6435625303824ca224292ddb4c82ad2a174fabbbc3818f72717a9e1f029');
INSERT INTO "issued" VALUES('dev-01m8ppvaffdwe6nf9z4qeb11qd',1798650603,'7fd663e28e80c5e5ea89483bee47cc72','43cccf20a33a92421eaef92459d95541a7dac8bdb2264a53b350bb3f1760dcdf','08f19e6b68e663b32abeb93ac12e41a98bd1fa273bae71ec0fddefaa00bd87ee','-----BEGIN CERTIFICATE-----
MIIChDCCAgqgAwIBAgIQf9Zj4o6AxeXqiUg77kfMcjAKBggqhkjOPQQDAzAzMTEw
LwYDVQQDDChGbGVldGkgZGV2aWNlIGF1dGhvcml0eSAzMDk5ZjRmNGY0M2Y0ODAz
MB4XDTI2MTEzMDE2MTAwM1oXDTI2MTIzMDE3MTAwM1owKTEnMCUGA1UEAwweZGV2
LTAxbThwcHZhZmZkd2U2bmY5ejRxZWIxMXFkMFkwEwYHKoZIzj0CAQYIKoZIzj0D
AQcDQgAEYb690KEbBaHKVcfEnKSV3FZfyyYCbg71boecbDwmLukQj9B1va/KNIX5
Y4/HJqyAB+k0CJEuXLj7ab9jPiCtNqOCAQgwggEEMAwGA1UdEwEB/wQCMAAwDgYD
VR0PAQH/BAQDAgeAMBMGA1UdJQQMMAoGCCsGAQUFBwMCMB0GA1UdDgQWBBSxPCuC
M8X2DQrhFKP9ybzcZlbr9DAfBgNVHSMEGDAWgBQajyIzJQmPbC4aHWpCNfkhHKgF
MTA7BgNVHREENDAyhjB1cm46ZmxlZXRpOmRldmljZTpkZXYtMDFtOHBwdmFmZmR3
ZTZuZjl6NHFlYjExcWQwQQYDVR0fBDowODA2oDSgMoYwaHR0cHM6Ly9sb2NhbGhv
c3Q6MzgxNDMvcGtpLzMwOTlmNGY0ZjQzZjQ4MDMuY3JsMA8GCCsGAQOEo1wBBAMK
AQAwCgYIKoZIzj0EAwMDaAAwZQIxANNY/+ABLpLRPEGmc2Dn+tP2CqugxcG4eImr
QAH+jXKVX/LX6Ftw/2t+8syR4ubuowIwHXwmJKGfSBpzLI32ItLZamtG/tI/AWux
JhSDeq0GJ/uQZfhjZW1rtXTgHISCjdDm
-----END CERTIFICATE-----
','6a882a6c807a3424cad41589e30772f33e9833eedd216f5002b4e8eb50debafd');
CREATE TABLE issuing (
    purpose TEXT PRIMARY KEY,
    certificate_sha256 TEXT NOT NULL
);
CREATE TABLE label_keys (
    label_key TEXT PRIMARY KEY,
    type TEXT NOT NULL,
    choices TEXT NOT NULL,
    created_s BIGINT NOT NULL
);
INSERT INTO "label_keys" VALUES('site','choice','["berlin","bonn"]',1796058597);
CREATE TABLE leases (
    name TEXT PRIMARY KEY,
    id TEXT NOT NULL,
    host TEXT NOT NULL,
    pid BIGINT NOT NULL,
    since_s BIGINT NOT NULL
);
CREATE TABLE pairings (
    token_sha256 TEXT PRIMARY KEY,
    code_sha256 TEXT NOT NULL UNIQUE,
    key_sha256 TEXT NOT NULL,
    running TEXT NOT NULL,
    expires_s BIGINT NOT NULL
);
CREATE TABLE password_links (
    account TEXT PRIMARY KEY,
    token_sha256 TEXT NOT NULL UNIQUE,
    expires_s BIGINT NOT NULL,
    seal TEXT NOT NULL
);
INSERT INTO "password_links" VALUES('','c478d9f9e9dec7c3635830f4ce99dfbef33fb6ad938f7447735b67ae206327c8',1796144890,'a570526b6261b0dd79d38e788da9c378cd6797eab5df0b9075d706b33e6dd676');
INSERT INTO "password_links" VALUES('alice','b1c0a093b83d1eba381fb4fac2512e7defe24dff8590950dcec9f44308a2527a',1796317798,'1fceca46aa231eeb953c2db2f7a073569b5f0f88da253308fbff0fad6b4e6289');
CREATE TABLE pending_acts (
    id TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    requester TEXT NOT NULL REFERENCES accounts (name),
    requested_s BIGINT NOT NULL,
    expires_s BIGINT NOT NULL,
    via TEXT NOT NULL,
    decided_by TEXT,
    decided_via TEXT,
    decided_s BIGINT,
    reason TEXT NOT NULL,
    summary TEXT NOT NULL,
    fleets TEXT,
    note TEXT NOT NULL,
    outcome TEXT NOT NULL,
    seal TEXT NOT NULL,
    act TEXT NOT NULL
);
CREATE TABLE readmissions (
    fleet TEXT PRIMARY KEY,
    until_s BIGINT NOT NULL,
    reason TEXT NOT NULL
);
CREATE TABLE recovery_keys (
    device TEXT PRIMARY KEY REFERENCES devices (id),
    wrapped TEXT NOT NULL,
    key_sha256 TEXT NOT NULL,
    kept_s BIGINT NOT NULL,
    shown_s BIGINT,
    previous TEXT
);
INSERT INTO "recovery_keys" VALUES('dev-01m8ppqpyb0jcxca835m50n36v','Pxk8PkqoxnILj0+fV1ZuSXOH7trZLrj29+nDe/Ye/URbhNKpGWCSPtHExSF0sDPAquaED/1WY8Jo','d641f419d5d71bb72f715c21527362051d2ef7e787417995df6e56269e7c1ee3',1796058374,NULL,NULL);
INSERT INTO "recovery_keys" VALUES('dev-01m8ppvaffdwe6nf9z4qeb11qd','ANgIPm595nWrP+G3OBHsmvDJaCqSdW1SjsX62qJ7kaX9KcfNmS/XSE2EIyI8MVJ1+Zi36kVbACZb','7dd8c46657a6230f12a54441420f8017faa96c4add881516eb17337dab765148',1796058493,NULL,NULL);
CREATE TABLE release_packages (
    package TEXT NOT NULL,
    release_name TEXT NOT NULL REFERENCES releases (name),
    version TEXT NOT NULL,
    source TEXT NOT NULL,
    source_version TEXT NOT NULL,
    PRIMARY KEY (package, release_name, version)
) WITHOUT ROWID;
CREATE TABLE release_paths (
    release_name TEXT PRIMARY KEY REFERENCES releases (name),
    floor TEXT,
    blocked TEXT NOT NULL
);
INSERT INTO "release_paths" VALUES('kiosk@3','because','[]');
CREATE TABLE releases (
    name TEXT PRIMARY KEY,
    manifest_sha256 TEXT NOT NULL,
    manifest TEXT NOT NULL,
    signatures TEXT NOT NULL,
    published_s BIGINT NOT NULL,
    audit_number BIGINT,
    revoked_s BIGINT,
    boot_proof TEXT,
    boot_proof_signatures TEXT
, packages BIGINT NOT NULL DEFAULT 0);
INSERT INTO "releases" VALUES('kiosk@1','3950c7995867724325db356b968df0d2c3ac405e5112737ea83449ab94d9d22d','{"architecture":"x86_64","artifacts":[{"path":"raw/kiosk_1.root","sha256":"dc834125672567aacf209b0a5d728066db2dde123fea21ab36791119eab4739f","size":1048576},{"authenticode":"81932e218fba421272115545dba3aaac9a45399e0908710d599a7c1ef1794a51","path":"raw/kiosk_1.efi","sha256":"d4e3334930794ebc87caf893c739f6775c96103da8607b6b1b4d1a6c0d890049","size":15},{"authenticode":"1787f898eabdcbbd8364f8e5d7979a28cbf4c84768fd6c605bd13fb7cec0ddb2","path":"raw/systemd-boot.efi","sha256":"a8869f7be6b7abb947566e57b1543be60a1a216f8573030215f2e7cc3b7bae61","size":20}],"created_s":0,"critical":[],"lock_digest":"3dbbae694c062e0f3225d77ee7e0f6993d6018ab515afe869d0889cf41e1505f","minimum_version":"1","reference_values":{"pcr11":{"enter-initrd:leave-initrd:sysinit:ready":"0000000000000000000000000000000000000000000000000000000000000000"},"systemd_version":"257"},"release":"kiosk@1","revision_digest":"09c36fd1bd15da8b61e43d14031b589d0c667119a3aa023a3d8edde581d1b19f","root_hash":"65963708aaeaaeab20b68b388631a75318c3b9fff884a1256e7f3615ee1cfcf6","type":"fleeti-release-manifest"}','[["6db508bac7663001","MGUCMQCPmzm8c9tP0hnxuwGsZVb4tOntMdbsu1aHGGcPAAgJTQpM/mvZvjFS8WOQOll9qT8CMHVYEh3mUtdYdN6ipLEkmVXvZ8jxb62jdC1Rp5Erp5/NiG/xEyZpyIgSQZm2jaK7cQ=="]]',1796058370,4,NULL,NULL,NULL,0);
INSERT INTO "releases" VALUES('kiosk@2','b9b5b88ea348847153ef86307ad0e565ec9841187005acbe74565e54c57ec0c6','{"architecture":"x86_64","artifacts":[{"path":"raw/kiosk_2.root","sha256":"976fb5b7ba4f88484e3fca8fc389665e904aac037de01c98d960ea472219808c","size":1048576},{"authenticode":"564bb1b3908337b467253b54d36d56dcc795073de62b73e85b433a5d523144be","path":"raw/kiosk_2.efi","sha256":"ad6236225f6e9c73e24a5f407281d9ead94280ffbb6d9f08c3a441b132167ff4","size":15},{"authenticode":"1787f898eabdcbbd8364f8e5d7979a28cbf4c84768fd6c605bd13fb7cec0ddb2","path":"raw/systemd-boot.efi","sha256":"a8869f7be6b7abb947566e57b1543be60a1a216f8573030215f2e7cc3b7bae61","size":20}],"created_s":0,"critical":[],"lock_digest":"3dbbae694c062e0f3225d77ee7e0f6993d6018ab515afe869d0889cf41e1505f","minimum_version":"2","reference_values":{"pcr11":{"enter-initrd:leave-initrd:sysinit:ready":"0000000000000000000000000000000000000000000000000000000000000000"},"systemd_version":"257"},"release":"kiosk@2","revision_digest":"09c36fd1bd15da8b61e43d14031b589d0c667119a3aa023a3d8edde581d1b19f","root_hash":"c097fcf5a669bc8f8fb9af1ec637a07a29c2f8aa0b736c4158a69fc9b452d409","type":"fleeti-release-manifest"}','[["6db508bac7663001","MGQCMHVhV0MtSz5FUzMr1uCD7jBX6hMxNr/pIkPOewwuh8fSdDEHRc2sW7sI8tBxBjWXDgIwf0Lq7mIIpBgpAW21knC5UBKBrnovxkw1F1jW3rkWgaO0Wvn5sFgC6lzNIwRjfc02"]]',1796058372,5,NULL,NULL,NULL,0);
INSERT INTO "releases" VALUES('kiosk@3','ed07ba958b2f8fc56dae1aea182ec656be03b035a2de6ce84b12148fd6d79928','{"architecture":"x86_64","artifacts":[{"path":"raw/kiosk_3.root","sha256":"b956016dfcbfcc307d2b803e94977284ac5c60660582ca85ab6dba4fdc0aea42","size":1048576},{"authenticode":"da8fb082375db06c3920e92a3b8aa6e9e2bfcf5951060b4e539c6334da103bb8","path":"raw/kiosk_3.efi","sha256":"b47f03ca812326dfbbbd6d5e51a203317240d9963f1e4d3266d3a25c63212679","size":15},{"authenticode":"1787f898eabdcbbd8364f8e5d7979a28cbf4c84768fd6c605bd13fb7cec0ddb2","path":"raw/systemd-boot.efi","sha256":"a8869f7be6b7abb947566e57b1543be60a1a216f8573030215f2e7cc3b7bae61","size":20}],"created_s":0,"critical":[],"lock_digest":"3dbbae694c062e0f3225d77ee7e0f6993d6018ab515afe869d0889cf41e1505f","minimum_version":"3","reference_values":{"pcr11":{"enter-initrd:leave-initrd:sysinit:ready":"0000000000000000000000000000000000000000000000000000000000000000"},"systemd_version":"257"},"release":"kiosk@3","revision_digest":"09c36fd1bd15da8b61e43d14031b589d0c667119a3aa023a3d8edde581d1b19f","root_hash":"a2d76e2689d02464b86fde705e5f54c74614bab9b6e61ea01ed8fb07548fbf30","type":"fleeti-release-manifest"}','[["6db508bac7663001","MGUCMQCF0qdbSkO9M7HwLaZ/yGwFglTo3L35KUvpjyD0tluIq5VYJncqVmouJbkWmc/dbRcCMAvimnjguaoPjlI9zmLrSmms4thlHrgmyGsU7Leidt24kVYENJMV3cNujXqFr4yBIQ=="]]',1796058599,37,NULL,NULL,NULL,0);
CREATE TABLE revisions (
    line TEXT NOT NULL,
    number BIGINT NOT NULL,
    digest TEXT NOT NULL,
    created_s BIGINT NOT NULL,
    document TEXT NOT NULL,
    description TEXT NOT NULL DEFAULT '',
    text TEXT, made_of TEXT,
    PRIMARY KEY (line, number)
);
INSERT INTO "revisions" VALUES('kiosk',1,'415a91cc469c8fc6ca31fd843d8563571e3ef8d513c7079380e7cec14d3e4bd4',1796058598,'{"schema":1,"name":"kiosk","description":"One program, full screen","architecture":"x86_64","identity":{"hostname":"kiosk-{id}","locale":"C.UTF-8","time_zone":"Etc/UTC","keyboard":"us"},"users":[{"name":"kiosk","comment":"Runs the program on the screen","groups":["video"],"shell":"/bin/bash"}],"software":{"packages":["jq"]},"services":[{"name":"kiosk.service","state":"enabled","unit":"[Unit]\nDescription=The program on the screen\nAfter=multi-user.target\n\n[Service]\nUser=kiosk\nExecStart=/usr/bin/sleep infinity\nRestart=always\n\n[Install]\nWantedBy=multi-user.target\n"},{"name":"kiosk-greeting.service","state":"enabled","unit":"[Unit]\nDescription=Shows the digest of the fleet''s greeting, which is secret\nPartOf=fleeti-secrets.target\nAfter=fleeti-secrets.target\nConditionPathExists=/run/fleeti-secrets/greeting\n\n[Service]\nType=oneshot\nLoadCredential=greeting:/run/fleeti-secrets/greeting\nExecStart=/usr/bin/sha256sum %d/greeting\nStandardOutput=tty\nTTYPath=/dev/console\n\n[Install]\nWantedBy=fleeti-secrets.target\n"}],"files":[{"path":"/etc/motd","content":"This is a kiosk. Its system is read-only and verified.\n","mode":"0644"}],"kernel":{"flavour":"cloud","arguments":["quiet"]},"health_checks":[{"name":"the kiosk program is installed","command":["/usr/bin/jq","--version"],"timeout_s":30}]}','One program, full screen',NULL,NULL);
CREATE TABLE revocations_alone (
    account TEXT NOT NULL,
    at_s BIGINT NOT NULL,
    devices BIGINT NOT NULL
);
CREATE TABLE rollout_devices (
    rollout TEXT NOT NULL REFERENCES rollouts (id),
    device TEXT NOT NULL REFERENCES devices (id),
    phase TEXT NOT NULL,
    category TEXT NOT NULL,
    since_s BIGINT NOT NULL,
    detail TEXT, wave BIGINT, listed BIGINT, cohort TEXT, offered_s BIGINT, previous TEXT, via TEXT, retries BIGINT NOT NULL DEFAULT 0, retry_s BIGINT, budget_group TEXT,
    PRIMARY KEY (rollout, device)
) WITHOUT ROWID;
INSERT INTO "rollout_devices" VALUES('rollout-01m8ppqr9rknqmt0aq5xax1dnm','dev-01m8ppqpyb0jcxca835m50n36v','succeeded','succeeded',1796058379,NULL,NULL,NULL,NULL,1796058374,'kiosk@1',NULL,0,NULL,NULL);
INSERT INTO "rollout_devices" VALUES('rollout-01m8ppymfdepjhs23r7mdpwcsz','dev-01m8ppvaffdwe6nf9z4qeb11qd','succeeded','succeeded',1796058600,NULL,NULL,NULL,NULL,1796058599,'kiosk@1',NULL,0,NULL,NULL);
CREATE TABLE rollout_groups (
    rollout TEXT NOT NULL REFERENCES rollouts (id),
    budget_group TEXT NOT NULL,
    total BIGINT NOT NULL,
    in_use BIGINT NOT NULL,
    PRIMARY KEY (rollout, budget_group)
) WITHOUT ROWID;
CREATE TABLE rollouts (
    id TEXT PRIMARY KEY,
    fleet TEXT NOT NULL,
    created_s BIGINT NOT NULL,
    active BIGINT NOT NULL,
    release_name TEXT NOT NULL,
    phase TEXT NOT NULL,
    total BIGINT NOT NULL DEFAULT 0,
    succeeded BIGINT NOT NULL DEFAULT 0,
    failed BIGINT NOT NULL DEFAULT 0,
    moving BIGINT NOT NULL DEFAULT 0,
    unconfirmed BIGINT NOT NULL DEFAULT 0,
    reached TEXT NOT NULL DEFAULT '',
    appraised TEXT
, withdrawn TEXT, pending BIGINT NOT NULL DEFAULT 0, unreached BIGINT NOT NULL DEFAULT 0, due_s BIGINT, plan TEXT, waves TEXT, queued BIGINT NOT NULL DEFAULT 0, next TEXT, back_of TEXT);
INSERT INTO "rollouts" VALUES('rollout-01m8ppqr9rknqmt0aq5xax1dnm','demo',1796058374,0,'kiosk@2','succeeded',1,1,0,0,0,'dev-01m8ppqpyb0jcxca835m50n36v',NULL,NULL,0,0,NULL,NULL,NULL,0,NULL,NULL);
INSERT INTO "rollouts" VALUES('rollout-01m8ppymfdepjhs23r7mdpwcsz','old',1796058599,0,'kiosk@3','succeeded',1,1,0,0,0,'dev-01m8ppvaffdwe6nf9z4qeb11qd',NULL,NULL,0,0,NULL,NULL,NULL,0,NULL,NULL);
CREATE TABLE sessions (
    token_sha256 TEXT PRIMARY KEY,
    created_s BIGINT NOT NULL,
    expires_s BIGINT NOT NULL,
    credential_sha256 TEXT NOT NULL DEFAULT ''
, account TEXT NOT NULL DEFAULT 'bootstrap', used_s BIGINT NOT NULL DEFAULT 0);
CREATE TABLE signature_approvals (
    build TEXT NOT NULL,
    key_id TEXT NOT NULL,
    signature TEXT NOT NULL,
    PRIMARY KEY (build, key_id)
);
CREATE TABLE signature_requests (
    build TEXT PRIMARY KEY,
    intent TEXT NOT NULL,
    key_id TEXT NOT NULL,
    signature TEXT NOT NULL,
    created_s BIGINT NOT NULL
);
CREATE TABLE superseded (
    device TEXT NOT NULL REFERENCES devices (id),
    not_after_s BIGINT NOT NULL,
    serial TEXT NOT NULL,
    issuer TEXT NOT NULL,
    PRIMARY KEY (device, not_after_s, serial)
) WITHOUT ROWID;
CREATE TABLE transitions (
    sha256 TEXT PRIMARY KEY,
    signed TEXT NOT NULL,
    imported_s BIGINT NOT NULL
);
CREATE TABLE trust_bundles (
    root_sha256 TEXT NOT NULL,
    version BIGINT NOT NULL,
    bundle TEXT NOT NULL,
    signature TEXT NOT NULL,
    transcript TEXT NOT NULL,
    imported_s BIGINT NOT NULL,
    PRIMARY KEY (root_sha256, version)
);
CREATE TABLE views (
    name TEXT PRIMARY KEY,
    filter TEXT NOT NULL,
    account TEXT NOT NULL,
    saved_s BIGINT NOT NULL
);
INSERT INTO "views" VALUES('berlin','site=berlin','bootstrap',1796058598);
CREATE TABLE webhook_deliveries (
    webhook TEXT NOT NULL,
    number BIGINT NOT NULL,
    at_s BIGINT NOT NULL,
    kind TEXT NOT NULL,
    attempts BIGINT NOT NULL,
    next_s BIGINT,
    answered_s BIGINT,
    status TEXT NOT NULL,
    answer TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (webhook, number)
);
CREATE TABLE webhooks (
    id TEXT PRIMARY KEY,
    url TEXT NOT NULL,
    kinds TEXT NOT NULL,
    secret TEXT NOT NULL,
    created_s BIGINT NOT NULL,
    position BIGINT NOT NULL
);
INSERT INTO "webhooks" VALUES('hook-01m8ppykc5rxhm74g666wxn0gf','https://example.com/in','["alerts.raised","alerts.resolved"]','zialTw15L2NAXbodS59fL1H/chLl58QvJ8OvVn5JA0QBNk4XrSUaPoOnioUBKTKD4IpLaKtj11KNyVCa2M+7VMpOHVnBUqRy',1796058598,18);
CREATE TABLE workers (
    name TEXT PRIMARY KEY,
    token_sha256 TEXT NOT NULL UNIQUE,
    created_s BIGINT NOT NULL,
    seen_s BIGINT
);
INSERT INTO "workers" VALUES('builder','b104a3d63ca42478cc656b90f370db1d0b198f96c0cdc2b1992bfd43923747d3',1796058599,NULL);
CREATE INDEX devices_by_fleet ON devices (fleet, id);
CREATE INDEX devices_by_update ON devices (revoked_s, update_kind);
CREATE INDEX devices_of_fleets ON devices (fleet, revoked_s);
CREATE INDEX devices_by_alarm ON devices (alarm) WHERE alarm IS NOT NULL;
CREATE INDEX devices_by_clone_alarm ON devices (clone_alarm) WHERE clone_alarm IS NOT NULL;
CREATE UNIQUE INDEX rollouts_active ON rollouts (fleet) WHERE active = 1;
CREATE INDEX rollouts_by_time ON rollouts (created_s);
CREATE INDEX rollout_devices_by_category ON rollout_devices (rollout, category, device);
CREATE INDEX commands_pending ON commands (device, status, created_s);
CREATE INDEX revisions_by_digest ON revisions (line, digest);
CREATE INDEX builds_by_phase ON builds (phase, created_s);
CREATE INDEX pairings_by_end ON pairings (expires_s);
CREATE INDEX device_tpms_judged_by ON device_tpms (judged_by, device);
CREATE INDEX attestations_by_release ON attestations (release_name);
CREATE INDEX issued_by_end ON issued (not_after_s);
CREATE INDEX superseded_by_end ON superseded (not_after_s);
CREATE INDEX rollouts_withdrawing ON rollouts (id) WHERE withdrawn IS NOT NULL;
CREATE INDEX rollouts_due ON rollouts (due_s) WHERE due_s IS NOT NULL;
CREATE INDEX rollout_devices_pending ON rollout_devices (rollout, wave, listed, cohort) WHERE phase = 'pending';
CREATE INDEX api_tokens_account ON api_tokens (account);
CREATE INDEX sessions_account ON sessions (account);
CREATE INDEX enrollments_account ON enrollments (account) WHERE account IS NOT NULL AND device IS NULL;
CREATE INDEX devices_searched ON devices (id, fleet, revoked_s, update_kind, running, version_key, seen_step, name_key);
CREATE INDEX devices_by_name ON devices (name_key) WHERE name_key IS NOT NULL;
CREATE INDEX devices_with_note ON devices (id) WHERE note IS NOT NULL;
CREATE INDEX devices_with_refused_report ON devices (id) WHERE report_refused IS NOT NULL;
CREATE INDEX devices_with_failed_attestation ON devices (id) WHERE attestation_failure IS NOT NULL;
CREATE INDEX device_labels_by_value ON device_labels (label_key, value, device);
CREATE INDEX device_labels_of_device ON device_labels (device);
CREATE INDEX devices_watched ON devices (revoked_s, watch_s);
CREATE INDEX devices_drifting ON devices (id) WHERE drift_since_s IS NOT NULL;
CREATE UNIQUE INDEX alerts_active ON alerts (device, rule) WHERE state <> 'resolved';
CREATE INDEX alerts_active_by_id ON alerts (id) WHERE state <> 'resolved';
CREATE INDEX alerts_by_device ON alerts (device, rule, changed_s);
CREATE INDEX alerts_by_fleet ON alerts (fleet, id);
CREATE INDEX alerts_by_rule ON alerts (rule, fleet, changed_s);
CREATE INDEX alerts_silenced ON alerts (silenced_until_s) WHERE silenced_until_s IS NOT NULL;
CREATE INDEX alerts_resolved ON alerts (changed_s) WHERE state = 'resolved';
CREATE INDEX alert_changes_by_alert ON alert_changes (alert, number);
CREATE INDEX alert_groups_due ON alert_groups (due_s) WHERE due_s IS NOT NULL;
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (next_s) WHERE next_s IS NOT NULL;
CREATE INDEX device_metrics_by_time ON device_metrics (span_s, at_s);
CREATE INDEX device_metrics_points ON device_metrics (at_s) WHERE points <> '';
CREATE INDEX release_packages_by_source ON release_packages (source);
CREATE INDEX devices_images ON devices (revoked_s, id, fleet, running);
CREATE INDEX attestations_images ON attestations (device, appraised_s, level, release_name);
CREATE INDEX commands_by_device ON commands (device, created_s, id);
CREATE INDEX commands_by_time ON commands (created_s);
CREATE INDEX command_results_by_device ON command_results (device, at_s);
CREATE INDEX command_results_by_time ON command_results (at_s);
CREATE INDEX rollout_devices_retrying ON rollout_devices (rollout, retry_s) WHERE retry_s IS NOT NULL;
CREATE INDEX rollout_devices_queued ON rollout_devices (rollout, budget_group, wave, cohort) WHERE phase = 'queued';
CREATE INDEX pending_acts_open ON pending_acts (state, expires_s);
CREATE INDEX pending_acts_requested ON pending_acts (requested_s);
CREATE INDEX revocations_alone_account ON revocations_alone (account, at_s);
CREATE INDEX rollouts_ready ON rollouts (id) WHERE phase = 'ready';
CREATE INDEX rollouts_by_next ON rollouts (next) WHERE next IS NOT NULL;
CREATE INDEX rollout_devices_blocked ON rollout_devices (rollout) WHERE phase = 'blocked';
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('audit_outbox',27);
COMMIT;
