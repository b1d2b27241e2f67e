"""What refusals of an S3 server, and of the library before it, mean for a person: no requests."""

import contextlib
from collections.abc import Iterator

from mnist_pipeline.incremental.artifacts import Place
from mnist_pipeline.incremental.errors import StoreError

_REFUSED = {
    "AccessDenied",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "SignatureDoesNotMatch",
    "403",
}
_ELSEWHERE = {"AuthorizationHeaderMalformed", "PermanentRedirect", "301", "307"}


def code_of(error: BaseException) -> str | None:
    """Return the server's own word for an error, or None if it is none of a server."""
    from botocore.exceptions import ClientError

    for one in (error, error.__cause__):
        if isinstance(one, ClientError):
            return str(one.response["Error"].get("Code"))
    return None


@contextlib.contextmanager
def told(path: Place) -> Iterator[None]:
    """Say what a refusal means. Its own text stays out: servers tell who asked, and how."""
    try:
        yield
    except Exception as error:
        if (meaning := _meaning(error)) is None:
            raise
        raise StoreError(f"cannot use {path}: {meaning}") from None


def _meaning(error: Exception) -> str | None:
    import aiohttp
    from botocore import exceptions
    from fsspec.exceptions import FSTimeoutError
    from s3fs.utils import FileExpired

    code = code_of(error)
    if isinstance(error, FileExpired) or code in {"NoSuchKey", "PreconditionFailed"}:
        return "it was replaced while it was read. Try again."
    if code in {"NoSuchBucket", "404"}:
        return "there is no such bucket. Make it, or mend MNIST_DATA_DIR."
    if code in _REFUSED:
        return (
            f"the server refuses ({code}). Look at the credentials (AWS_ACCESS_KEY_ID, AWS_PROFILE "
            "...) and at what they allow: s3:GetObject, PutObject, DeleteObject, ListBucket."
        )
    if code in _ELSEWHERE:
        return f"the bucket is in another region ({code}). Set AWS_DEFAULT_REGION to it."
    if code:
        return f"the server answers {code}. Try again later, or ask who runs it."
    if isinstance(
        error,
        exceptions.NoCredentialsError
        | exceptions.PartialCredentialsError
        | exceptions.CredentialRetrievalError
        | exceptions.ProfileNotFound,
    ):
        return (
            "there are no credentials. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
            "AWS_PROFILE."
        )
    unanswered = (exceptions.ConnectionError, exceptions.HTTPClientError, aiohttp.ClientError)
    if isinstance(error, (*unanswered, FSTimeoutError, TimeoutError)):
        return (
            "the server does not answer. Look at the network, and at AWS_ENDPOINT_URL if it is not "
            "Amazon's."
        )
    if isinstance(error, exceptions.BotoCoreError):
        return f"{type(error).__name__}. Look at the AWS_ variables and at ~/.aws/config."
    return None
